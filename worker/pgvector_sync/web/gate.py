"""What happens to every request and every response, whatever the route.

In this order: security headers, the method, the host, the token, a time limit, and an unexpected error.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pgvector_sync.web import auth
from pgvector_sync.web.failures import Failure, reported, respond

REQUEST_LIMIT = timedelta(seconds=15)
"""The maximum time for a request, including the wait for a thread. Prometheus gives up after 10 s by default."""
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""Nothing is loaded from elsewhere, cached, or shown in a frame, and no script or style within a page runs."""

NOT_ALLOWED = Failure(405, "Only GET and HEAD", "everything here is read-only", headers={"allow": "GET, HEAD"})
NO_TOKEN = Failure(
    401,
    "Token required",
    "the request has no token, or not the right one",
    hint="in a browser, enter any user name and the token (PGVECTOR_SYNC_SERVE_TOKEN of the server) as password; "
    "elsewhere send the header `Authorization: Bearer TOKEN`",
    headers={"www-authenticate": auth.CHALLENGE},
)
OTHER_HOST = Failure(
    421,
    "Unknown host name",
    "the header Host names another server than this one",
    hint="use the IP address or localhost, start `pgvector-sync serve` with --allowed-host and the name, "
    "or set PGVECTOR_SYNC_SERVE_TOKEN",
)
TOO_SLOW = Failure(
    503,
    "Too slow",
    f"there was no answer within {REQUEST_LIMIT.total_seconds():g} seconds",
    hint="try again in a moment; `pgvector-sync doctor` shows what slows the database down",
)


class Gate:
    """The ASGI middleware around all routes."""

    def __init__(self, app: ASGIApp, *, token: str | None, allowed_hosts: Collection[str]) -> None:
        self._app, self._token = app, token
        self._allowed_hosts = frozenset(name.lower() for name in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request. Other scopes, such as the lifespan, are passed on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        failure = self._refusal(scope)
        if failure is None:
            failure = await self._answer(scope, receive, send_with_headers)
        if failure is not None and not started:
            await respond(scope, failure)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Failure | None:
        """Return why the request isn't even looked at."""
        headers = Headers(scope=scope)
        if scope["method"] not in ("GET", "HEAD"):
            return NOT_ALLOWED
        authorized = self._token is not None and auth.has_token(headers, self._token)
        scope["pgvector_sync.authorized"] = authorized or self._token is None
        if self._token is None and not auth.is_our_host(headers.get("host", ""), self._allowed_hosts):
            return OTHER_HOST
        if self._token is not None and not authorized and scope["path"] not in auth.OPEN_PATHS:
            return NO_TOKEN
        return None

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> Failure | None:
        """Let the routes answer. Return what went wrong if they can't."""
        with anyio.move_on_after(REQUEST_LIMIT.total_seconds()) as limit:
            try:
                await self._app(scope, receive, send)
            except Exception as error:  # noqa: BLE001  the routes handle those that they expect
                return reported(scope, error)
        return TOO_SLOW if limit.cancelled_caught else None
