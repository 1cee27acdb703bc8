"""A hostile endpoint: the memory and time that its answers can cost are bounded, whatever it sends."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable
from datetime import timedelta

import httpcore2
import pytest

from pgvector_sync.embedding.network.bounded_network import BoundedStream
from pgvector_sync.embedding.network.bounds import bounded
from support import hostile_endpoint as hostile
from support import victim
from support.hostile_endpoint import Hostile, answer, dripping, head, whole
from support.synced import DOCS, Synced
from support.victim import DIMENSIONS, KEY, TEXTS, Cost, call
from support.waiting import within

MOST = 150
"""Megabytes. The largest correct answer to a request here, with numbers in JSON, takes about 60."""


def attacked(attack: hostile.Attack, *, reads: bool = True, **how: object) -> Cost:
    with Hostile(attack, reads=reads) as endpoint:
        return call(endpoint.base_url, **how)  # type: ignore[arg-type]


# -- memory --------------------------------------------------------------------------------------------------


def test_compression_does_not_fill_the_memory() -> None:
    cost = attacked(whole(hostile.gzip_bomb(1_500), Content_Encoding="gzip"), timeout=20)
    assert (cost.error, cost.growth < MOST) == ("BrokenContract oversized", True), cost


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "deflate, gzip", "x"])
def test_an_unrequested_compression_is_not_unpacked(coding: str) -> None:
    cost = attacked(whole(answer(len(TEXTS), DIMENSIONS), Content_Encoding=coding), timeout=20)
    assert (cost.error, cost.growth < MOST) == ("BrokenContract compressed", True), cost


@pytest.mark.parametrize(
    "attack", [lambda: hostile.chunks(600), lambda: whole(b" " * (600 << 20))], ids=["chunks", "length"]
)
def test_a_long_answer_does_not_fill_the_memory(attack: Callable[[], hostile.Attack]) -> None:
    cost = attacked(attack(), timeout=20)  # made here: every process of the test run would keep it in memory
    assert (cost.error, cost.growth < MOST) == ("BrokenContract oversized", True), cost


def test_the_body_of_an_error_does_not_fill_the_memory() -> None:
    cost = attacked(hostile.chunks(600, status=400), timeout=20)
    assert (cost.error, cost.growth < MOST) == ("InputRejected None", True), cost


@pytest.mark.parametrize("charset", ["bz2_codec", "zlib_codec"])
def test_the_charset_of_an_error_cant_select_a_decompressor(charset: str) -> None:
    bomb = hostile.bz2_bomb(8) if charset == "bz2_codec" else zlib.compress(b" " * (60 << 20))
    cost = attacked(whole(bomb, 400, Content_type=f"text/html; charset={charset}"), timeout=20)
    assert (cost.error, cost.growth < MOST) == ("InputRejected None", True), cost


@pytest.mark.parametrize(
    "item",
    ["{}", '{"a":1}', "[]", '"āb"', "[" * 900 + "]" * 900],
    ids=["objects", "pairs", "lists", "words", "nests"],
)
def test_a_short_json_does_not_become_a_large_object(item: str) -> None:
    body = '{"data":[' + ",".join([item] * (15_000_000 // (len(item.encode()) + 1))) + "]}"
    cost = attacked(whole(body.encode()), timeout=20)
    assert (cost.error, cost.growth < MOST) == ("BrokenContract oversized", True), cost


def test_a_list_of_words_in_place_of_a_vector_does_not_fill_the_memory() -> None:
    words = ["x" * 20_000, *[""] * 5_000]  # numpy allocates the longest length for each
    items = [{"index": i, "embedding": words if i == 0 else "AAAA"} for i in range(len(TEXTS))]
    cost = attacked(whole(json.dumps({"data": items}).encode()), timeout=20)
    assert (cost.error, cost.growth < MOST) == ("BrokenContract malformed", True), cost


def test_an_endpoint_leaves_nothing_behind_for_the_next_call() -> None:
    body = answer(1, DIMENSIONS)
    with Hostile(whole(body, Set_Cookie="id=" + "x" * 4_000)) as endpoint:
        embedder = victim.embedder_at(endpoint.base_url)
        for _ in range(2):
            embedder.embed(["text"], victim.SPEC, deadline=within(60))
        embedder.close()
    assert len(endpoint.requests) == 2
    assert "cookie" not in endpoint.requests[1].lower()


def test_an_answer_without_a_request_is_not_used_for_another_request() -> None:
    """A second answer follows the first, as from a gateway that mixes up the requests of several clients."""

    def answer_twice(connection: socket.socket) -> None:
        ours, other = (answer(1, DIMENSIONS, sign=sign) for sign in (1, -1))
        connection.sendall(b"".join(head(Content_Length=len(body)) + body for body in (ours, other)))

    with Hostile(answer_twice) as endpoint:
        embedder = victim.embedder_at(endpoint.base_url, timeout=5)
        for _ in range(3):
            vectors = embedder.embed(["text"], victim.SPEC, deadline=within(60)).vectors
            assert (vectors > 0).all(), "each text has its own vector"
        embedder.close()


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
RATE = b"HTTP/1.1 429 X\r\nContent-Length: 0\r\n"
FRAMES = {
    "no head": b'{"data": []}',
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a negative length": OK + b"Content-Length: -1\r\n\r\n{}",
    "a length without end": OK + b"Content-Length: 99999999999999999999\r\n\r\n{}",
    "a negative chunk": CHUNKED + b"-5\r\n{}",
    "an extension of 5 MB": CHUNKED + b"2;a=" + b"x" * 5_000_000 + b"\r\n{}\r\n0\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n{}",
    "a zero in a header": OK + b"X: a\0b\r\nContent-Length: 2\r\n\r\n{}",
    "an unknown status": b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n",
    "a reason that acts on a terminal": b"HTTP/1.1 400 \x1b[2J\r\nContent-Length: 0\r\n\r\n",
    "a file": b"HTTP/1.1 302 X\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
    "this machine": b"HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "a pause of digits": RATE + b"Retry-After: " + b"9" * 5_000 + b"\r\n\r\n",
    "a pause that is not ASCII": RATE + b"Retry-After: \xb2\r\n\r\n",
    "a pause until the year 99999": RATE + b"Retry-After: Fri, 31 Dec 99999 23:59:59 GMT\r\n\r\n",
    "a pause of another zone": RATE + b"Retry-After: Fri, 31 Dec 9999 23:59:59 -9999\r\n\r\n",
    "a pause that is not a number": RATE + b"Retry-After-Ms: nan\r\n\r\n",
    "a code that is half a character": b'HTTP/1.1 400 X\r\nContent-Length: 27\r\n\r\n{"error":{"code":"\\ud800"}}',
}


@pytest.mark.parametrize("what", FRAMES)
def test_every_malformed_answer_becomes_one_of_our_errors(what: str) -> None:
    def attack(connection: socket.socket) -> None:
        connection.sendall(FRAMES[what])
        connection.shutdown(socket.SHUT_WR)

    cost = attacked(attack, timeout=1)  # any other error would end the process, and fail the call
    assert cost.error.split()[0] in {
        "BrokenContract",
        "Unavailable",
        "TimedOut",
        "RateLimited",
        "Misconfigured",
        "CallRejected",
        "InputRejected",
    }
    assert "\x1b" not in cost.message
    assert cost.growth < MOST


# -- time ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attack",
    [
        dripping(hostile.header_bytes),
        dripping(hostile.early_hints),
        hostile.flood_of_hints,
        dripping(hostile.body_bytes),
        dripping(hostile.error_body_bytes),
    ],
    ids=["headers", "early hints", "flood of early hints", "body", "body of an error"],
)
def test_an_answer_that_never_ends_ends_at_the_deadline_of_the_call(attack: hostile.Attack) -> None:
    cost = attacked(attack, timeout=0.5, gives_up=5)
    assert cost.error == "TimedOut None"
    assert 0.4 < cost.seconds < 2.0
    assert cost.growth < MOST


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_never_ends_its_answer_is_given_up_at_the_deadline_of_the_call(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    with Hostile(dripping(hostile.header_bytes)) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", proxy.base_url.removesuffix("/v1"))
        cost = call(f"{scheme}://models.example/v1", timeout=0.5, gives_up=5)
    assert cost.error == "TimedOut None"
    assert 0.4 < cost.seconds < 2.0


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_proxy_of_a_provider_is_given_up_at_the_deadline_of_the_call(scheme: str) -> None:
    with Hostile(dripping(hostile.header_bytes)) as proxy:
        cost = call(
            f"{scheme}://models.example/v1", timeout=0.5, gives_up=5, proxy=proxy.base_url.removesuffix("/v1")
        )
    assert cost.error == "TimedOut None"
    assert 0.4 < cost.seconds < 2.0


def test_a_tls_handshake_through_the_proxy_that_never_ends_is_given_up_at_the_deadline_of_the_call() -> None:
    def open_and_stay_silent(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while connection.recv(65_536):
            pass

    with Hostile(open_and_stay_silent) as proxy:
        cost = call("https://models.example/v1", timeout=0.5, gives_up=5, proxy=proxy.base_url.removesuffix("/v1"))
    assert cost.error == "TimedOut None"
    assert 0.4 < cost.seconds < 2.0


def test_an_answer_through_a_proxy_does_not_fill_the_memory() -> None:
    with Hostile(hostile.chunks(600)) as proxy:
        cost = call("http://models.example/v1", timeout=20, proxy=proxy.base_url.removesuffix("/v1"))
    assert (cost.error, cost.growth < MOST) == ("BrokenContract oversized", True), cost


def test_a_request_that_is_read_slowly_ends_at_the_deadline_of_the_call() -> None:
    ours, theirs = socket.socketpair()
    for one, option in ((ours, socket.SO_SNDBUF), (theirs, socket.SO_RCVBUF)):
        one.setsockopt(socket.SOL_SOCKET, option, 4_096)  # a network's window; loopback takes a request at once
    threading.Thread(target=hostile.slow_reader, args=(theirs,), daemon=True).start()
    stream = BoundedStream(_Plain(ours))
    started = time.monotonic()
    with ours, bounded(timeout=timedelta(seconds=0.5), answer_bytes=0), pytest.raises(httpcore2.WriteTimeout):
        stream.write(b"x" * 1_000_000, timeout=0.5)
    assert 0.4 < time.monotonic() - started < 1.0


class _Plain(httpcore2.NetworkStream):
    """A stream that exposes its socket."""

    def __init__(self, plain: socket.socket) -> None:
        self._plain = plain

    def get_extra_info(self, info: str) -> socket.socket | None:
        return self._plain if info == "socket" else None


def test_a_name_that_is_not_resolved_ends_at_the_deadline_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    ever = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: ever.wait(30))
    cost = call("http://localhost:9/v1", timeout=0.5, gives_up=5)
    assert cost.error == "TimedOut None"
    assert cost.seconds < 2.0


# -- the pipelines --------------------------------------------------------------------------------------------


def test_a_hostile_endpoint_costs_its_own_pipeline_one_batch_and_the_other_pipelines_nothing(
    synced: Synced,
) -> None:
    synced.run(DOCS, "CREATE TABLE notes (id bigint PRIMARY KEY, body text)")
    synced.declare("notes", source="notes")
    synced.pipeline()
    with Hostile(whole(hostile.gzip_bomb(1_500), Content_Encoding="gzip")) as endpoint:
        synced.run(
            "INSERT INTO pgvector_sync.provider (name, base_url, api_key_env) "
            f"VALUES ('hostile', '{endpoint.base_url}', 'TEST_KEY')",
            "UPDATE pgvector_sync.pipeline SET provider = 'hostile' WHERE name = 'docs'",
            "INSERT INTO docs SELECT n, 'text ' || n FROM generate_series(1, 50) AS n",
            "INSERT INTO notes VALUES (1, 'a note')",
        )
        synced.turns(5)
        state, reason = synced.database.execute(
            "SELECT state, reason FROM pgvector_sync.pipeline WHERE name = 'docs'"
        )[0]
        assert state == "misconfigured"
        assert reason.startswith("the answer is longer than the requested vectors can be")
        assert set(synced.vectors("notes")) == {(1,)}
        assert synced.database.value("SELECT max(attempts) FROM pgvector_sync.work") == 0
        assert len(endpoint.requests) <= 5
    synced.run(
        "UPDATE pgvector_sync.pipeline SET provider = 'test', state = 'active', retry_at = NULL WHERE name = 'docs'"
    )
    synced.sync()
    assert synced.dead() == []


# -- what is shown --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        KEY,
        KEY.lower(),
        KEY[8:],
        f"invalid_key.{KEY[8:]}",
        KEY.replace("-", "_"),
        "550e8400-e29b-41d4-a716-446655440000",
    ],
)
def test_a_key_in_place_of_an_error_code_is_never_shown(code: str) -> None:
    error = {"error": {"code": code, "type": code, "message": f"{code} isn't a valid key"}}
    cost = attacked(whole(json.dumps(error).encode(), 401))
    assert cost.error == "CallRejected None"
    assert KEY[8:].lower() not in cost.message.lower()


@pytest.mark.parametrize("claimed", [10**30, 10**12, -5, "many"])
def test_an_endpoint_does_not_decide_what_a_call_has_cost(claimed: object) -> None:
    cost = attacked(whole(answer(len(TEXTS), DIMENSIONS, usage={"total_tokens": claimed})))
    assert cost.error == ""
    assert 0 < cost.tokens < 10_000


# -- correct answers that are still accepted ------------------------------------------------------------------


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
def test_a_correct_compressed_answer_is_accepted(pack: Callable[[bytes], bytes]) -> None:
    body = pack(answer(len(TEXTS), DIMENSIONS))
    cost = attacked(whole(body, Content_Encoding="gzip" if pack is gzip.compress else "deflate"), timeout=5)
    assert cost.error == ""


def test_the_longest_correct_answer_is_accepted() -> None:
    vector = [-1.2345678901234567e-05] * DIMENSIONS
    items = [{"object": "embedding", "index": i, "embedding": vector} for i in range(len(TEXTS))]
    cost = attacked(whole(json.dumps({"data": items}, indent=4).encode()), timeout=20)
    assert (cost.error, cost.growth < MOST) == ("", True), cost


def test_no_request_asks_for_a_compressed_answer() -> None:
    with Hostile(whole(answer(1, DIMENSIONS))) as endpoint:
        call(endpoint.base_url, ["text"])
    assert "accept-encoding: identity" in endpoint.requests[0].lower()
