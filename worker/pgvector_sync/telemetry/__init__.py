"""What we say while we work: the events, how a line looks, and the guard that nothing leaks (G13).

A line is an event of `Event` and fields: `log.info(Event.WRITE, pipeline="articles", rows=256)`. Lines go to
stderr; stdout belongs to what a command was asked for.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TextIO, cast

import structlog
from structlog.stdlib import BoundLogger, ProcessorFormatter

from pgvector_sync.errors import SyncError
from pgvector_sync.telemetry.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from structlog.typing import EventDict, Processor, WrappedLogger


class Event(StrEnum):
    """Every event there is. Dashboards and alerts hang on these words: add to them, never rename one."""

    WORKER_READY = "worker_ready"
    """Pools are open and the first claim may come."""
    DATABASE_UNAVAILABLE = "database_unavailable"
    """No connection to Postgres; tried again for as long as it takes."""
    PRESENCE_FAILED = "presence_failed"
    """The database didn't take that this worker is alive; `status` may count one too few."""
    REDIS_UNAVAILABLE = "redis_unavailable"
    """No connection to Redis; costs latency, loses nothing (G7)."""

    MESSAGE_REFUSED = "message_refused"
    """Messages in our queues that say something else than one of our tasks and its arguments were dropped."""
    KEY_REPLACED = "key_replaced"
    """A key of ours in Redis held something else than we write, and was deleted."""

    RELAY_ELECTED = "relay_elected"
    """This worker polls the outbox from now on."""
    RELAY_FAILED = "relay_failed"
    """A look failed in a way that nobody has thought of; the next one comes in a second."""
    SCHEMA_MISSING = "schema_missing"
    """The database has no pgvector_sync schema yet."""
    RELAY_LOST = "relay_lost"
    """Another worker polls it, or Redis forgot who does."""

    DRAIN = "drain"
    """Outbox events became work."""
    SWEEP = "sweep"
    """After a TRUNCATE: vectors without a row were removed."""
    RELEASE_FAILED = "release_failed"
    """The database was out of reach when rows should have gone back; they go back as soon as it isn't."""
    KEEPER_FAILED = "keeper_failed"
    """Leases couldn't be renewed, for a reason that nobody has thought of."""
    LEASES_LOST = "leases_lost"
    """A worker has died, or was silent for too long: others take its rows."""
    WRITE = "write"
    """Vectors were written and their rows acked, in one transaction."""
    PARKED = "parked"
    """A row became a dead letter."""

    COOL_DOWN = "cool_down"
    """The provider is down or asked for a pause; the pipeline waits until its probe."""
    MISCONFIGURED = "misconfigured"
    """Key, model or quota are wrong; the pipeline waits for a person or its probe."""
    RECOVERED = "recovered"
    """A probe succeeded; the pipeline goes on."""

    SCHEMA_PROBLEM = "schema_problem"
    """The schema watch: source, target or triggers are not as a pipeline needs them; its state says why."""
    SCHEMA_REPAIRED = "schema_repaired"
    """They are again, by the watch itself or by somebody."""

    RUN_PAGE = "run_page"
    """A run's watermark moved on by a page."""
    RUN_BUSY = "run_busy"
    """Somebody's locks were in the way of a page; it is tried again."""
    RUN_ENDED = "run_ended"
    """A run has finished or failed; `runs show` says which."""
    RUN_FAILED = "run_failed"
    """A run met an error that nothing expects; it has ended, or a fill is tried again."""
    RUN_REFUSED = "run_refused"
    """The database refuses what a run was asked for."""
    RECONCILE_DUE = "reconcile_due"
    """The schedule has asked for a reconciliation."""
    DISCARDED = "discarded"
    """Dead letters that nobody has looked at for long were set aside."""
    RECONCILE_PAGE = "reconcile_page"
    """A page of source and target was compared."""
    RECONCILED = "reconciled"
    """Source and target were compared from end to end; the counts say what has drifted."""

    APPLIED = "applied"
    """The database matches the file."""


class LogSettings(Protocol):
    """The part of Settings that logging needs; the two modules don't know each other."""

    @property
    def log_format(self) -> str:
        """`console` or `json`."""

    @property
    def log_level(self) -> str:
        """`DEBUG`, `INFO`, `WARNING` or `ERROR`."""


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


# The order matters: the guard comes last, over everything that the others added.
_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    speak_errors,
    guard,
]

# At DEBUG these write whole requests, texts included.
_TALKATIVE = ("openai", "httpx", "httpx2", "httpcore", "httpcore2", "urllib3", "huggingface_hub", "asyncio")
# One line a message each, and a change is a message: what they say, our own events say by the batch.
_PER_MESSAGE = ("celery.worker.strategy", "celery.app.trace")


class _Stderr(logging.StreamHandler[TextIO]):
    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr  # whatever it is by now: daemons and tests exchange it
        super().emit(record)


_handlers: list[logging.Handler] = []
"""Those that `configure_logging` has made: what else there is belongs to an application."""


def configure_logging(settings: LogSettings) -> None:
    """Send our lines and those of all libraries to stderr, in one form and through one guard.

    Replaces the root logger's handlers; may be called again. For Celery, call it in `setup_logging`.
    """
    renderer: Processor
    if settings.log_format == "json":
        renderer = structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    handler = _Stderr()
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *_SHARED],
            processors=[ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = _handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for name in _PER_MESSAGE:
        quiet = logging.DEBUG if root.level == logging.DEBUG else max(logging.WARNING, root.level)
        logging.getLogger(name).setLevel(quiet)


def _hand_over(logger: WrappedLogger, method: str, fields: EventDict) -> Any:
    """To our own handler as it is; to an application's, which has a format of its own, as a line of text."""
    if _handlers:
        return ProcessorFormatter.wrap_for_formatter(logger, method, fields)
    added = ("event", "level", "timestamp")
    pairs = [f"{name}={value}" for name, value in fields.items() if name not in added and value is not None]
    return " ".join([str(fields["event"]), *pairs])


class _Logger(BoundLogger):
    def exception(self, event: str | None = None, *args: Any, **fields: Any) -> Any:
        # structlog's own would give the error to the standard library as well, and other people's handlers
        # would print it with all its words.
        return self.error(event, *args, **{"exc_info": True} | fields)


def get_logger() -> BoundLogger:
    """Our logger, guarded even where nothing is configured.

    It leaves structlog's global settings alone: they belong to the application that may have imported us.
    """
    logger = structlog.wrap_logger(
        logging.getLogger("pgvector_sync"),
        processors=[structlog.stdlib.filter_by_level, *_SHARED, _hand_over],
        wrapper_class=_Logger,
    )
    return cast("BoundLogger", logger)


log = get_logger()
