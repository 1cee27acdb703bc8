"""The guard that nothing leaks (G13): what may carry source text or a secret is withheld from every line.

Events are typed so that it can't get there (`event.py`). Lines of libraries aren't: every line passes here.
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
_CREDENTIALS = re.compile(r"(?<=://)\S*@")  # up to the last @: a password may hold one
_ASSIGNED = re.compile(
    r"""(password|passwd|api_?key|secret)(["']?\s*[=:]\s*)('(?:[^'\\]|\\.)*'|"[^"]*"|[^\s,&]+)""",
    re.IGNORECASE,
)
_KEY = re.compile(r"\bsk-[\w-]{6,}|\bBearer\s+\S+", re.IGNORECASE)
_DETAIL = re.compile(r"\s*\b(DETAIL|CONTEXT|QUERY|STATEMENT): .*", re.DOTALL)


def guard(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    """Withhold fields that may carry source text or a secret (no number does); clean all other strings."""
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
            return _cleaned(" <- ".join(_spoken(value)))
        case _:
            return _cleaned(str(value))


def _spoken(error: BaseException) -> Iterator[str]:
    """An error and its causes: our own words, but of anybody else's only the class and the SQLSTATE.

    psycopg's message quotes values of the row, an HTTP client's the request.
    """
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        state = getattr(cause, "sqlstate", None)
        words = str(cause) if isinstance(cause, SyncError) else f"SQLSTATE {state}" if state else ""
        yield f"{type(cause).__name__}: {words}" if words else type(cause).__name__
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def speak_errors(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    """Replace `exc_info` by `error`, the class and its causes, and `at`, the innermost places in the code.

    A library (Celery, for one) writes the error into its message as well: there it is cut off.
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
        words = (type(error).__name__, str(error), repr(error))
        places = [event.find(word) for word in words if word and word in event]
        fields["event"] = event[: min(places, default=None)].rstrip(": ")
    fields.update(error=error, at=places_of(error))
    return fields


def words_of(error: BaseException) -> str:
    """An error and its causes as a log may show them."""
    return str(_cleaned(error))


def places_of(error: BaseException) -> str:
    """The innermost places in the code that it came through."""
    frames = traceback.extract_tb(error.__traceback__)[-5:]
    return " > ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
