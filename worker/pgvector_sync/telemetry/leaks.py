"""The guard against leaks (G13): removes what may contain source text or a secret from every line.

Our own events are typed so that they can't contain either (`event.py`). Lines of libraries aren't, so all lines
pass this guard.
"""

from __future__ import annotations

import re
import sys
import traceback
from enum import StrEnum
from typing import TYPE_CHECKING

from pgvector_sync.errors import SyncError
from pgvector_sync.telemetry.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from structlog.typing import EventDict, WrappedLogger

WITHHELD = "[withheld]"

# Source text and what it can be rebuilt from (vectors can be inverted), secrets, and what Postgres quotes.
_NEVER_LOGGED = re.compile(
    r"^(texts?|chunks?|inputs?|query|row|content|body|embeddings?|vectors?|detail|context|params|parameters"
    r"|headers|authorization|dsn|conninfo|(database|redis|broker|celery_broker)_url"
    r"|(.*_)?(api_?key|(pg)?password|passwd|secret|token|credentials))$",
    re.IGNORECASE,
)
_CREDENTIALS = re.compile(r"(?<=://)\S*@")  # up to the last @: a password may contain one
_ASSIGNED = re.compile(
    r"""(password|passwd|api_?key|secret)(["']?\s*[=:]\s*)('(?:[^'\\]|\\.)*'|"[^"]*"|[^\s,&]+)""",
    re.IGNORECASE,
)
_KEY = re.compile(r"\bsk-[\w-]{6,}|\bBearer\s+\S+", re.IGNORECASE)
_DETAIL = re.compile(r"\s*\b(DETAIL|CONTEXT|QUERY|STATEMENT): .*", re.DOTALL)


def guard(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    """Withhold fields that may contain source text or a secret (numbers can't); clean all other strings."""
    return {
        name: WITHHELD if _NEVER_LOGGED.match(name) and not _is_plain(value) else _cleaned(value)
        for name, value in fields.items()
    }


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, int | float | StrEnum)


def _cleaned(value: object) -> object:
    if _is_plain(value):
        return value
    match value:
        case str():
            value = _KEY.sub(WITHHELD, _CREDENTIALS.sub(f"{WITHHELD}@", value))
            return printable(_DETAIL.sub("", _ASSIGNED.sub(rf"\1\2{WITHHELD}", value)))
        case bytes() | bytearray() | memoryview():
            return f"{len(value)} bytes"
        case dict():
            return guard(None, "", {str(name): inner for name, inner in value.items()})
        case list() | tuple() | set() | frozenset():
            return [_cleaned(inner) for inner in value]
        case type():
            return value.__name__
        case BaseException():
            return _cleaned(" <- ".join(_descriptions(value)))
        case _:
            return _cleaned(str(value))


def _descriptions(error: BaseException) -> Iterator[str]:
    """Describe an error and its causes: our own messages, but only class and SQLSTATE of other errors.

    The messages of psycopg quote values of the row, those of an HTTP client the request.
    """
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        state = getattr(cause, "sqlstate", None)
        message = str(cause) if isinstance(cause, SyncError) else f"SQLSTATE {state}" if state else ""
        yield f"{type(cause).__name__}: {message}" if message else type(cause).__name__
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def describe_errors(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    """Replace `exc_info` by `error`, the error and its causes, and `at`, the innermost places in the code.

    Some libraries, such as Celery, write the error into their message as well. It is removed there.
    """
    error = fields.pop("exc_info", None)
    if isinstance(error, tuple):
        error = error[1]
    elif error is True:
        error = sys.exception()
    if not isinstance(error, BaseException):
        return fields
    if not isinstance(error, SyncError):
        event = str(fields["event"])
        quotes = (type(error).__name__, str(error), repr(error))
        places = [event.find(quote) for quote in quotes if quote and quote in event]
        fields["event"] = event[: min(places, default=None)].rstrip(": ")
    fields.update(error=error, at=places_of(error))
    return fields


def description_of(error: BaseException) -> str:
    """Return an error and its causes as a log may show them."""
    return str(_cleaned(error))


def places_of(error: BaseException) -> str:
    """Return the innermost places in the code that an error passed through."""
    frames = traceback.extract_tb(error.__traceback__)[-5:]
    return " > ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
