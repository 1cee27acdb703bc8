"""An embeddings endpoint that costs little CPU, for benchmarks: it checks nothing, and its vectors are fixed.

python benchmarks/fast_endpoint.py [--latency-ms 200] [--dimensions 1536]     prints its port when it listens
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

DISTINCT = 64
"""The number of different vectors."""


class Server(ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True

    def __init__(self, *, latency_ms: float, dimensions: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.latency_ms = latency_ms
        vectors = np.random.default_rng(1).normal(size=(DISTINCT, dimensions)).astype("<f4")
        self.encoded = [base64.b64encode(vector.tobytes()).decode() for vector in vectors]
        self.answer = cache(self._make_answer)

    def _make_answer(self, inputs: int) -> bytes:
        data = [
            {"object": "embedding", "index": index, "embedding": self.encoded[index % DISTINCT]}
            for index in range(inputs)
        ]
        usage = {"prompt_tokens": inputs * 100, "total_tokens": inputs * 100}
        return json.dumps({"object": "list", "data": data, "model": "fixed", "usage": usage}).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise the end of an answer waits 40 ms for the client's delayed ACK
    wbufsize = 1 << 16
    server: Server

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer = self.server.answer(len(request["input"]))
        time.sleep(self.server.latency_ms / 1000)
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Requests aren't logged."""


@dataclass(frozen=True)
class FastEndpoint:
    """An endpoint that runs as a process."""

    base_url: str


@contextmanager
def running_fast_endpoint(*options: str) -> Iterator[FastEndpoint]:
    """Run the endpoint as a process with these options."""
    with subprocess.Popen([sys.executable, __file__, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield FastEndpoint(f"http://127.0.0.1:{process.stdout.readline().strip()}/v1")
        finally:
            process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--dimensions", type=int, default=1536)
    options = parser.parse_args()
    server = Server(latency_ms=options.latency_ms, dimensions=options.dimensions)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
