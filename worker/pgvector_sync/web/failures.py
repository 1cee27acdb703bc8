"""Turn an error into a response: its status, and a page, a JSON document or text. Never a stack trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import psycopg
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Scope

from pgvector_sync.client.documents import write_document
from pgvector_sync.database import OUTAGE
from pgvector_sync.database.explain import explain
from pgvector_sync.errors import ConfigError, MigrationRefused, SyncError, UnknownPipeline
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.event import Words
from pgvector_sync.telemetry.events.web import RequestBroke, RequestFailed
from pgvector_sync.web.pages.errors import error_page

PLAIN_PATHS = frozenset({"/metrics", "/livez"})
"""Paths that programs read as text."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a client is told. `text` and `hint` are sentences of ours, without source text or secrets."""

    status: int
    title: str
    text: str
    hint: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def failure_of(error: Exception) -> Failure:
    """Return what an error means for the client."""
    match error:
        case HTTPException(status_code=404):
            return Failure(404, "Not found", "there is no such page", hint="the overview is at /")
        case HTTPException():
            phrase = HTTPStatus(error.status_code).phrase
            return Failure(error.status_code, phrase, phrase.lower(), headers=error.headers or {})
        case UnknownPipeline():
            return Failure(404, "Unknown pipeline", str(error), hint=error.hint)
        case MigrationRefused():
            return Failure(503, "The schema doesn't fit", str(error), hint=error.hint)
        case ConfigError():
            return Failure(400, "Invalid request", str(error), hint=error.hint)
        case SyncError():
            return Failure(409, "Refused", str(error), hint=error.hint)
        case psycopg.Error():
            text, hint = explain(error)
            if isinstance(error, OUTAGE):
                return Failure(503, "The database can't answer", text, hint=hint)
            if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName):
                return Failure(503, "The schema doesn't fit", text, hint=hint)
            return Failure(500, "The database rejected a statement", text, hint=hint)
    hint = "the log of `pgvector-sync serve` names its place in the code; please report it as a bug"
    return Failure(500, "Unexpected error", "an unexpected error occurred", hint=hint)


def reported(scope: Scope, error: Exception) -> Failure:
    """Log an error that isn't the client's, and return what the client is told."""
    failure = failure_of(error)
    pattern = getattr(scope.get("route"), "path", None)  # a path can hold anything
    route = None if pattern is None else Words(pattern)
    if not isinstance(error, HTTPException | SyncError | psycopg.Error):
        emit(RequestBroke(route=route, error=error))
    elif failure.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        sqlstate = error.sqlstate if isinstance(error, psycopg.Error) else None
        emit(RequestFailed(route=route, status=failure.status, sqlstate=sqlstate))
    return failure


async def handle(request: Request, error: Exception) -> Response:
    """Handle an exception of a route."""
    return respond(request.scope, reported(request.scope, error))


def respond(scope: Scope, failure: Failure) -> Response:
    """Return a failure in the form that the path promises: text, JSON, or a page."""
    path = scope["path"]
    if path in PLAIN_PATHS:
        lines = [f"{failure.title}: {failure.text}", *([f"  → {failure.hint}"] if failure.hint else [])]
        response: Response = PlainTextResponse("\n".join(lines) + "\n", status_code=failure.status)
    elif path.endswith(".json") or path == "/readyz":
        content = {"status": failure.status, "title": failure.title, "text": failure.text, "hint": failure.hint}
        response = json_response({"error": content}, failure.status)
    else:
        root = scope.get("root_path", "")
        response = error_page(failure.status, failure.title, failure.text, failure.hint, root=root)
    response.headers.update(failure.headers)
    return response


def json_response(content: Mapping[str, object], status: int = 200) -> Response:
    """Return a JSON document as the commands print them, with `version`."""
    return Response(write_document(content) + "\n", status_code=status, media_type="application/json")
