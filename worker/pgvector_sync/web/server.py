"""Listen and serve until SIGTERM or Ctrl-C. Both end it with exit code 0, as they end a worker and beat."""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from ipaddress import ip_address
from types import FrameType

import uvicorn

from pgvector_sync.database.read_only import ReadOnlyDatabase
from pgvector_sync.errors import ConfigError, Refused
from pgvector_sync.settings import Settings
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.event import Words
from pgvector_sync.telemetry.events.web import Serving
from pgvector_sync.web.app import THREADS, create_app
from pgvector_sync.web.connection import LimitedConnection

STATEMENT_LIMIT = timedelta(seconds=5)
CONNECT_LIMIT = timedelta(seconds=3)
SHUTDOWN_LIMIT = timedelta(seconds=5)
"""How long requests in flight may take after the signal."""
BACKLOG = 128


def run(settings: Settings, *, host: str, port: int, require_token: bool, allowed_hosts: Collection[str]) -> None:
    """Serve until a signal. `port` 0 chooses a free one.

    Raises ConfigError for a host that isn't usable or would need a token, and Refused if the port is taken.
    """
    conninfo = settings.database()
    listener = _listen(host, port)
    with listener:
        address = listener.getsockname()
        if require_token and settings.serve_token is None and not ip_address(address[0]).is_loopback:
            raise ConfigError(
                f"{host} can be reached from other machines, and no token is set",
                where="--host",
                hint="export PGVECTOR_SYNC_SERVE_TOKEN=$(openssl rand -hex 24), or pass --no-token if a proxy or "
                "a network policy controls who reaches it",
            )
        with ReadOnlyDatabase(
            conninfo,
            lock_timeout=settings.lock_timeout,
            max_connections=THREADS,
            statement_limit=STATEMENT_LIMIT,
            connect_limit=CONNECT_LIMIT,
        ) as database:
            app = create_app(database, settings, allowed_hosts=allowed_hosts)
            emit(Serving(address=Words(url_of(*address[:2])), token=settings.serve_token is not None))
            _Server(
                uvicorn.Config(
                    app,
                    loop="asyncio",
                    http=LimitedConnection,
                    ws="none",
                    lifespan="on",
                    log_config=None,
                    log_level="warning",
                    access_log=False,
                    proxy_headers=False,
                    server_header=False,
                    timeout_graceful_shutdown=int(SHUTDOWN_LIMIT.total_seconds()),
                )
            ).run([listener])


class _Server(uvicorn.Server):
    """Ends normally after a signal, where uvicorn would raise it again. A second one ends without waiting."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the signals while the block runs."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        previous = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end, or hurry."""
        del sig, frame
        self.should_exit, self.force_exit = True, self.should_exit


def url_of(host: str, port: int) -> str:
    """Return the address of the server as a URL."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ConfigError(
            f"{host} isn't an address of this machine ({error.strerror})",
            where="--host",
            hint="use 127.0.0.1, or 0.0.0.0 for all interfaces",
        ) from None
    family, _, _, _, address = found[0]
    try:
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        raise _refused(host, port, error) from None


def _refused(host: str, port: int, error: OSError) -> Refused | ConfigError:
    match error.errno:
        case errno.EADDRINUSE:
            return Refused(
                f"port {port} of {host} is already in use",
                hint=f"choose another with --port, or find out which process has it: ss -ltnp 'sport = :{port}'",
            )
        case errno.EACCES:
            return ConfigError(
                f"this user may not listen on port {port}", where="--port", hint="choose one above 1023"
            )
        case errno.EADDRNOTAVAIL:
            return ConfigError(
                f"{host} isn't an address of this machine",
                where="--host",
                hint="use 127.0.0.1, or 0.0.0.0 for all interfaces",
            )
    return Refused(f"can't listen on port {port} of {host}: {os.strerror(error.errno or 0)}")
