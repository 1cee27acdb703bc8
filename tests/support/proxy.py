"""A TCP proxy whose connections can be cut, delayed, silenced and refused: a bad network between two real processes."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit, urlunsplit

CHUNK = 1 << 16
LOOK_SECONDS = 0.02
"""How long an idle connection may take to notice that it was cut."""


@dataclass
class Trap:
    """Springs once, on the first connection whose client has sent all the words in this order."""

    words: tuple[bytes, ...]
    forward: bool
    """Whether the server gets the message that contains the last word."""
    mute: bool
    """Whether the connection is silenced instead of cut."""
    sprung: threading.Event


class Proxy:
    """Listens from construction, always on the same port. Other threads may control it meanwhile."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._listener: socket.socket | None = None
        self._port = 0
        self._connections: list[_Connection] = []
        self._lock = threading.Lock()
        self.latency = 0.0
        """Seconds in each direction."""
        self.muted = False
        self.trap: Trap | None = None
        self.forged: bytes | None = None
        """Bytes that clients get instead of the server's answers."""
        self.forgeries = 0
        """The number of times that clients got forged bytes."""
        self._listen()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()

    @property
    def url(self) -> str:
        """The server's URL, with the address of the proxy."""
        place = f"127.0.0.1:{self._port}"
        user, at, _ = self._url.netloc.rpartition("@")
        return urlunsplit(self._url._replace(netloc=f"{user}{at}{place}"))

    @property
    def open(self) -> int:
        """The number of open connections, including silent ones."""
        with self._lock:
            return len(self._connections)

    # -- what can go wrong ---------------------------------------------------------------------------------

    def cut(self) -> int:
        """Resets every connection, as a firewall or a rebooted host does; returns how many."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.ending.set()
        for connection in connections:
            connection.thread.join()
        return len(connections)

    def refuse(self) -> None:
        """Cuts every connection and stops listening."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept()
            listener.close()
        self.cut()

    def mute(self) -> None:
        """Makes open and new connections half-open: data is accepted and never arrives. Connections that are open now stay
        silent after `heal`, as after a fail-over to a host that doesn't know them.
        """
        self.muted = True
        with self._lock:
            for connection in self._connections:
                connection.muted = True

    def cut_at(self, *words: bytes, forward: bool, mute: bool = False) -> threading.Event:
        """Cuts (or silences) the first connection whose client has sent these words in this order. `forward` says whether
        the server gets the last message. The returned event is set when it has happened.
        """
        self.trap = Trap(words, forward, mute, threading.Event())
        return self.trap.sprung

    def heal(self) -> None:
        """Makes new connections work normally."""
        self.muted, self.latency, self.trap, self.forged = False, 0.0, None, None
        if self._listener is None:
            self._listen()

    # -- serving -------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=128)
        self._port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # closed
                return
            connection = _Connection(self, client)
            with self._lock:
                self._connections.append(connection)
            connection.thread.start()

    def serve(self, connection: _Connection) -> None:
        try:
            with suppress(OSError):
                connection.run((self._url.hostname or "", self._url.port or 0))
        finally:
            connection.reset()
            with self._lock:
                self._connections.remove(connection)


class _Connection:
    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self.proxy, self.client = proxy, client
        self.server: socket.socket | None = None
        self.muted = proxy.muted
        self.ending = threading.Event()
        self.thread = threading.Thread(target=proxy.serve, args=(self,), daemon=True)
        self._heard = 0
        """The number of the trap's words that the client has sent."""
        self._trap: Trap | None = None

    def run(self, address: tuple[str, int]) -> None:
        """Forwards data in both directions until one side hangs up or the connection is cut."""
        self.server = socket.create_connection(address)
        for side in (self.client, self.server):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        others = {self.client: self.server, self.server: self.client}
        while not self.ending.is_set():
            ready, _, _ = select.select(list(others), [], [], LOOK_SECONDS)
            for side in ready:
                data = side.recv(CHUNK)
                if self.muted:
                    if not data:
                        others.pop(side)  # the end of a silent connection isn't forwarded either
                    continue
                if not data:
                    return
                time.sleep(self.proxy.latency)
                if side is self.server and (forged := self.proxy.forged) is not None:
                    data = forged
                    self.proxy.forgeries += 1
                if side is self.server or self._passes(data):
                    others[side].sendall(data)
            if not others:
                return

    def _passes(self, data: bytes) -> bool:
        trap = self.proxy.trap
        if trap is None or trap.sprung.is_set():
            return True
        if trap is not self._trap:
            self._trap, self._heard = trap, 0
        while self._heard < len(trap.words) and trap.words[self._heard] in data:
            self._heard += 1
        if self._heard < len(trap.words):
            return True
        if trap.forward and self.server is not None:
            self.server.sendall(data)
        self.muted = trap.mute
        if not trap.mute:
            self.ending.set()
        trap.sprung.set()
        return False

    def reset(self) -> None:
        """Closes both sides; if the connection was cut, the client gets a reset."""
        for side in (self.client, self.server):
            if side is not None:
                if self.ending.is_set():
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                side.close()
