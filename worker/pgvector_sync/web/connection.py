"""A client's connection: it is closed unless it sends its request within a time limit.

uvicorn has no such limit before the first request. Without one, idle connections would use up the process's file
descriptors, and `/livez` couldn't be asked any more.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_LIMIT = timedelta(seconds=10)
"""How long a client may take until it has sent the head of its first request."""


class LimitedConnection(H11Protocol):
    """uvicorn's connection, with the time limit."""

    _head_limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit with the connection."""
        super().connection_made(transport)
        self._head_limit = self.loop.call_later(HEAD_LIMIT.total_seconds(), self._close_unless_asked)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the time limit, so that it doesn't keep the connection's memory."""
        if self._head_limit is not None:
            self._head_limit.cancel()
        super().connection_lost(exc)

    def _close_unless_asked(self) -> None:
        if self.cycle is None:  # no request has arrived yet
            self.transport.abort()
