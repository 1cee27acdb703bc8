"""The ASGI app: its routes, and how many of them may use the database at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import anyio.to_thread
import psycopg
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from pgvector_sync.database import Database
from pgvector_sync.errors import SyncError
from pgvector_sync.observe.metrics.collector import CONTENT_TYPE, exposition
from pgvector_sync.observe.readiness import check_readiness
from pgvector_sync.settings import Settings
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.event import Words
from pgvector_sync.telemetry.events.web import NotReady
from pgvector_sync.web import pages
from pgvector_sync.web.failures import handle, json_response
from pgvector_sync.web.gate import Gate

THREADS = 4
"""How many requests are processed at once, each with a connection of its own. Others wait for their turn."""


def create_app(database: Database, settings: Settings, *, allowed_hosts: Collection[str] = ()) -> Starlette:
    """Return the app. `database` should be read-only, with `THREADS` connections."""
    token = None if settings.serve_token is None else settings.serve_token.get_secret_value()

    def metrics(_: Request) -> Response:
        return Response(exposition(database), media_type=CONTENT_TYPE)

    def readyz(request: Request) -> Response:
        readiness = check_readiness(database)
        content: dict[str, object] = {"ready": readiness.ready, "reason": readiness.reason}
        if readiness.reason is not None:
            emit(NotReady(reason=Words(readiness.reason)))
        if request.scope["pgvector_sync.authorized"]:  # these may name a host or a role
            content |= {"schema": readiness.schema, "problem": readiness.problem, "hint": readiness.hint}
        return json_response(content, 200 if readiness.ready else 503)

    routes = [
        Route("/livez", livez),
        Route("/readyz", readyz),
        Route("/metrics", metrics),
        *pages.routes(database, settings),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Gate, token=token, allowed_hosts=allowed_hosts)],
        exception_handlers=dict.fromkeys((HTTPException, SyncError, psycopg.Error), handle),
        lifespan=_limited_threads,
    )


async def livez(_: Request) -> Response:
    """Answer without a thread and without the database: as long as this works, a restart would not help."""
    return PlainTextResponse("alive\n")


@asynccontextmanager
async def _limited_threads(_: Starlette) -> AsyncIterator[None]:
    """Bound the threads in which Starlette runs all routes that aren't coroutines."""
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    yield
