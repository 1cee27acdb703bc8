"""TLS in front of a real server, like a pooler or a load balancer in production. The servers in the tests' wheels are built
without TLS. Tests create the certificates.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from trustme import CA

from support.listener import Listener, pass_on

SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""A client's request for TLS in Postgres' protocol; the answer is one letter."""


class TlsFront(Listener):
    """Uses TLS with clients, and plain TCP with the server at `port`; with `tls=None` it behaves like a server without TLS.
    `address` is the address it listens on.
    """

    def __init__(
        self, port: int, tls: ssl.SSLContext | None, *, postgres: bool, address: str = "127.0.0.1"
    ) -> None:
        self._behind = port
        self.tls = tls
        self._postgres = postgres
        self._clients: list[socket.socket] = []
        self.first: list[bytes] = []
        """What each client sent before the TLS handshake."""
        super().__init__(address)

    def hang_up(self) -> None:
        """Ends all connections."""
        for client in self._clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(("127.0.0.1", self._behind)) as server:
            if self._postgres:
                first = client.recv(len(SSL_REQUEST), socket.MSG_WAITALL)
                self.first.append(first)
                if first == SSL_REQUEST:
                    client.sendall(b"S" if self.tls else b"N")
                else:
                    server.sendall(first)
            if self.tls is not None:
                client = self.tls.wrap_socket(client, server_side=True)
            self._clients.append(client)
            pass_on(client, server)


def server_context(
    authority: CA, *names: str, clients: CA | None = None, not_after: datetime | None = None
) -> ssl.SSLContext:
    """A server's TLS context with a certificate for these names or addresses.

    clients: the authority of the certificates that clients must have. not_after: when the server's certificate expires.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **_until(not_after)).configure_cert(context)
    if clients is not None:
        clients.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_files(
    authority: CA, name: str, folder: Path, *, not_after: datetime | None = None
) -> tuple[Path, Path]:
    """Writes the certificate of a client with this common name, and its key, which only its owner may read."""
    issued = authority.issue_cert(f"{name}@clients.example", common_name=name, **_until(not_after))
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    key.touch(0o600)
    key.write_bytes(issued.private_key_pem.bytes())
    return certificate, key


YESTERDAY = datetime.now(UTC) - timedelta(days=1)


def _until(moment: datetime | None) -> dict[str, datetime]:
    return {} if moment is None else {"not_before": moment - timedelta(days=30), "not_after": moment}
