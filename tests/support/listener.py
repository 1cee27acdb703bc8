"""A server on a port of this machine that serves each connection in a thread, and passes on bytes between sockets."""

from __future__ import annotations

import socket
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Self

CHUNK = 1 << 16


class Listener(ABC):
    """Listens from construction, and serves within a `with` block."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self._listener = socket.create_server((address, 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    @abstractmethod
    def _serve(self, client: socket.socket) -> None:
        """Serves one connection and closes it."""


def pass_on(client: socket.socket, server: socket.socket, sent: bytearray | None = None) -> None:
    """Passes on bytes in both directions until one side hangs up, and adds to `sent` what the client sends."""
    back = threading.Thread(target=_pump, args=(server, client), daemon=True)
    back.start()
    _pump(client, server, sent)
    back.join()


def _pump(source: socket.socket, sink: socket.socket, copy: bytearray | None = None) -> None:
    with suppress(OSError):
        while data := source.recv(CHUNK):
            if copy is not None:
                copy += data
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
