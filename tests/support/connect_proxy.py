"""An HTTP proxy: it opens tunnels for https (CONNECT) and forwards requests over http. Every host name is this machine."""

from __future__ import annotations

import socket
from base64 import b64decode
from contextlib import suppress
from urllib.parse import urlsplit

from support.listener import Listener, pass_on


class ConnectProxy(Listener):
    """Listens from construction. `heads` holds what it could read of each connection before it passed on bytes."""

    def __init__(self, *, login: str | None = None, refuses: str | None = None) -> None:
        """`login` is the user and password that it requires, `refuses` the status line with which it refuses."""
        self.heads: list[str] = []
        self.seen = bytearray()
        """All bytes that clients sent through it."""
        self._login = login
        self._refuses = refuses
        super().__init__()
        self.place = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.place}"

    @property
    def logins(self) -> list[str]:
        """The user and password of each connection; empty if there were none."""
        fields = [
            dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line) for head in self.heads
        ]
        lower = [{name.lower(): value for name, value in head.items()} for head in fields]
        return [b64decode(head.get("proxy-authorization", "").removeprefix("Basic ")).decode() for head in lower]

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            read = b""
            while b"\r\n\r\n" not in read:
                if not (data := client.recv(65_536)):
                    return
                read += data
            head, _, rest = read.partition(b"\r\n\r\n")
            self.heads.append(head.decode("latin-1"))
            self.seen += read
            if refusal := self._refusal():
                client.sendall(f"HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n\r\n".encode())
                return
            method, target, _ = self.heads[-1].split(" ", 2)
            parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
            with socket.create_connection(("127.0.0.1", parts.port or 80)) as server:
                if method == "CONNECT":
                    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    server.sendall(rest)
                else:
                    path = f"{parts.path}?{parts.query}".rstrip("?")
                    server.sendall(read.replace(target.encode(), path.encode(), 1))
                pass_on(client, server, self.seen)

    def _refusal(self) -> str | None:
        if self._refuses is not None:
            return self._refuses
        if self._login is not None and self.logins[-1] != self._login:
            return "407 Proxy Authentication Required"
        return None
