"""A server that replaces the broker and sends invalid answers: workers survive, and continue when the broker is back."""

from __future__ import annotations

import pytest

from support.cluster import Cluster
from support.proxy import Proxy

ANSWERS = {
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "an invalid number": b":abc\r\n",
    "an invalid length": b"$x\r\n",
    "an array of an invalid length": b"*x\r\n",
    "a negative length": b"$-7\r\n",
    "nested deeply": b"*1\r\n" * 20_000 + b":1\r\n",
    "bytes that aren't UTF-8": b"+\xff\xfe\r\n-\xff\r\n",
    "an error without text": b"-\r\n",
    "moved": b"-MOVED 1 127.0.0.1:1\r\n",
    "moved nowhere": b"-MOVED\r\n",
    "ask": b"-ASK x y\r\n",
    "a push": b">2\r\n+invalidate\r\n*1\r\n+x\r\n",
    "a push that isn't a list": b">-1\r\n",
    "a map with a list as key": b"%1\r\n*1\r\n:1\r\n:1\r\n",
    "another type": b"*2\r\n+x\r\n*1\r\n:1\r\n",
    "a number": b":3\r\n",
    "nothing": b"$-1\r\n",
    "too many answers": b":1\r\n" * 10_000,
    "a long line": b"+" + b"x" * 5_000_000,
    "a long bulk": b"$99999999999\r\nxxx",
    "a long array": b"*99999999999\r\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("what", ANSWERS)
def test_no_answer_of_the_broker_ends_or_wedges_a_worker(cluster: Cluster, what: str) -> None:
    with Proxy(cluster.valkey.url) as proxy:
        cluster.processes.env["REDIS_URL"] = proxy.url
        worker = cluster.worker("threads", concurrency=1)
        proxy.forged = ANSWERS[what]
        cluster.insert(5)
        worker.wait_for(lambda: proxy.forgeries > 4)
        proxy.heal()
        proxy.cut()
        cluster.settles()
        cluster.insert(5, start=101)
        cluster.settles()
        assert worker.exit_code is None
        assert "Traceback" not in worker.printed
