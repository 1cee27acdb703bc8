"""A hostile endpoint: each attack writes raw bytes to a real socket."""

from __future__ import annotations

import base64
import bz2
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Self

import numpy as np

MEGABYTE = 1 << 20
Attack = Callable[[socket.socket], None]
"""What the endpoint does with a connection after it has read the request."""


class Hostile:
    """Answers every request with one attack; `requests` holds the head of each."""

    def __init__(self, attack: Attack, *, reads: bool = True) -> None:
        """`reads` says whether it reads the request before it attacks."""
        self.requests: list[str] = []
        self._attack = attack
        self._reads = reads
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._open = True
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def keys(self) -> list[str]:
        """The Authorization header of each request; empty if it had none."""
        lines = [head.lower().split("\r\n") for head in self.requests]
        return [
            next((line.partition(": ")[2] for line in head if line.startswith("authorization:")), "")
            for head in lines
        ]

    def _serve(self) -> None:
        while self._open:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        # Most attacks end when the victim hangs up.
        with connection, suppress(OSError):
            while self._reads and (head := _read_request(connection)):
                self.requests.append(head)
                self._attack(connection)
            if not self._reads:
                self._attack(connection)


def _read_request(connection: socket.socket) -> str:
    """Reads a whole request and returns its head, or an empty string if the client hung up."""
    read = b""
    while b"\r\n\r\n" not in read:
        if not (data := connection.recv(65_536)):
            return ""
        read += data
    head, _, body = read.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
    left = length - len(body)
    while left > 0:
        left -= len(connection.recv(min(left, MEGABYTE)))
    return head.decode("latin-1")


def head(status: int = 200, **headers: object) -> bytes:
    lines = [f"HTTP/1.1 {status} OK", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def whole(body: bytes, status: int = 200, **headers: object) -> Attack:
    """Sends an ordinary answer with this body."""
    return lambda connection: connection.sendall(head(status, Content_Length=len(body), **headers) + body)


def answer(texts: int, dimensions: int, *, sign: int = 1, **more: object) -> bytes:
    """The body of a correct answer."""
    vector = base64.b64encode((sign * np.ones(dimensions, dtype="<f4")).tobytes()).decode()
    items = [{"object": "embedding", "index": i, "embedding": vector} for i in range(texts)]
    return json.dumps({"object": "list", "data": items, "usage": {"total_tokens": texts}, **more}).encode()


def gzip_bomb(megabytes: int) -> bytes:
    """A gzip stream of this many megabytes of blanks, compressed to about a thousandth."""
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    first, again = (packer.compress(b" " * MEGABYTE) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + again * (megabytes - 1)  # after a full flush, the same bytes are valid anywhere in the stream


def bz2_bomb(megabytes: int) -> bytes:
    return bz2.compress(b" " * (megabytes * MEGABYTE))


def chunks(megabytes: int, status: int = 200) -> Attack:
    """Sends a chunked body of this many megabytes."""

    def attack(connection: socket.socket) -> None:
        connection.sendall(head(status, Transfer_Encoding="chunked"))
        for _ in range(megabytes):
            connection.sendall(b"100000\r\n" + b" " * MEGABYTE + b"\r\n")
        connection.sendall(b"0\r\n\r\n")

    return attack


def dripping(pieces: Callable[[], Iterator[bytes]], every: float = 0.05) -> Attack:
    """Sends one piece at a time, each well within a client's read timeout."""

    def attack(connection: socket.socket) -> None:
        for piece in pieces():
            connection.sendall(piece)
            time.sleep(every)

    return attack


def header_bytes() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nX: "
    yield from (b"x" for _ in count())


def early_hints() -> Iterator[bytes]:
    yield from (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" for _ in count())


def body_bytes() -> Iterator[bytes]:
    yield head(Transfer_Encoding="chunked")
    yield from (b"1\r\n \r\n" for _ in count())


def error_body_bytes() -> Iterator[bytes]:
    yield head(400, Transfer_Encoding="chunked")
    yield from (b"1\r\n \r\n" for _ in count())


def flood_of_hints(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1_000)


def slow_reader(connection: socket.socket) -> None:
    """Reads a request at a few kilobytes per second."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    while connection.recv(2_048):
        time.sleep(0.05)
