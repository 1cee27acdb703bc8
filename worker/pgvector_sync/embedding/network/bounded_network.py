"""Network connections whose operations share one deadline: that of the call they serve.

The HTTP client restarts its timeout with every piece that is sent or received, so an endpoint that drips (its
headers, early hints, its body) could occupy a worker far beyond the lease of its batch.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address
from queue import Empty, SimpleQueue
from typing import Any

import httpcore2

from pgvector_sync.embedding.network.bounds import time_left


class BoundedNetwork(httpcore2.NetworkBackend):
    """Opens connections within the limits of `bounds.bounded`."""

    def __init__(self, network: httpcore2.NetworkBackend) -> None:
        self._network = network

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        failure: Exception = httpcore2.ConnectError("the host name has no address")
        for address in _addresses(host, port, timeout):
            left = _left(timeout, httpcore2.ConnectTimeout)
            try:
                stream = self._network.connect_tcp(address, port, left, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
            else:
                return BoundedStream(stream)
        raise failure

    def sleep(self, seconds: float) -> None:
        self._network.sleep(seconds)


class BoundedStream(httpcore2.NetworkStream):
    """A connection that reads and writes within the limits of `bounds.bounded`."""

    def __init__(self, stream: httpcore2.NetworkStream, *, layers: int = 0) -> None:
        """`layers` is the number of TLS layers: two inside an https proxy."""
        self._stream = stream
        self._layers = layers
        self.heard = False
        """Whether anything has been received since something was last sent."""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        received = self._stream.read(max_bytes, _left(timeout, httpcore2.ReadTimeout))
        self.heard = True
        return received

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        left = _left(timeout, httpcore2.WriteTimeout)
        self.heard = False
        sock = self._stream.get_extra_info("socket")
        if sock is None or self._layers > 1:  # TLS inside TLS has no socket of its own
            self._stream.write(buffer, left)
            return
        try:
            sock.settimeout(left)
            sock.sendall(buffer)  # its timeout is for the whole buffer
        except TimeoutError as error:
            raise httpcore2.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore2.WriteError(str(error)) from error

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        left = _left(timeout, httpcore2.ConnectTimeout)
        return BoundedStream(self._stream.start_tls(ssl_context, server_hostname, left), layers=self._layers + 1)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(timeout: float | None, error: type[Exception]) -> float | None:
    left = time_left(timeout)
    if left is not None and left <= 0:
        raise error("the call exceeded its time limit")
    return left


def _addresses(host: str, port: int, timeout: float | None) -> list[str]:
    """Resolve in a thread, since a resolver ignores our deadline. The thread ends when the resolver gives up."""
    with suppress(ValueError):
        return [str(ip_address(host))]
    answers: SimpleQueue[list[str] | Exception] = SimpleQueue()

    def resolve() -> None:
        try:
            resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys(str(address[0]) for *_, address in resolved)))
        except (OSError, ValueError) as error:  # a name that can't be encoded is a ValueError
            answers.put(error)

    threading.Thread(target=resolve, name="resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=_left(timeout, httpcore2.ConnectTimeout))
    except Empty:
        raise httpcore2.ConnectTimeout("the host name wasn't resolved in time") from None
    if isinstance(answer, Exception):
        raise httpcore2.ConnectError(str(answer)) from answer
    return answer
