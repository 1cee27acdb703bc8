"""The first sink: one line on stderr per event, in the same form as the lines of libraries.

Stdout is for the output of commands.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Protocol, TextIO, cast

import structlog
from structlog.stdlib import BoundLogger, ProcessorFormatter

from pgvector_sync.telemetry.event import Event
from pgvector_sync.telemetry.leaks import describe_errors, guard

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger


class LogSettings(Protocol):
    """The part of Settings that logging needs, so that neither module imports the other."""

    @property
    def log_format(self) -> str:
        """`console` or `json`."""

    @property
    def log_level(self) -> str:
        """`DEBUG`, `INFO`, `WARNING` or `ERROR`."""


# The order matters: the guard is last, so that it sees everything that the others have added.
_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    describe_errors,
    guard,
]

# At DEBUG these log whole requests, including texts.
_VERBOSE = ("openai", "httpx", "httpx2", "httpcore", "httpcore2", "urllib3", "huggingface_hub", "asyncio")
# These log a line per message. Our own events report the same per batch.
_PER_MESSAGE = ("celery.worker.strategy", "celery.app.trace")


class _Stderr(logging.StreamHandler[TextIO]):
    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr  # the current one: daemons and tests replace it
        super().emit(record)


_handlers: list[logging.Handler] = []
"""The handlers that `configure_logging` has created. All others belong to an application."""


def configure_logging(settings: LogSettings) -> None:
    """Send our lines and those of all libraries to stderr, in the same form and through the same guard.

    Replaces the handlers of the root logger. May be called again. With Celery, call it in `setup_logging`.
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
    for name in _VERBOSE:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for name in _PER_MESSAGE:
        quiet = logging.DEBUG if root.level == logging.DEBUG else max(logging.WARNING, root.level)
        logging.getLogger(name).setLevel(quiet)


def _hand_over(logger: WrappedLogger, method: str, fields: EventDict) -> Any:
    """Pass an event to our own handler as it is, or to an application's handlers as a line of text."""
    if _handlers:
        return ProcessorFormatter.wrap_for_formatter(logger, method, fields)
    added = ("event", "level", "timestamp")
    pairs = [f"{name}={value}" for name, value in fields.items() if name not in added and value is not None]
    return " ".join([str(fields["event"]), *pairs])


_logger = cast(
    "BoundLogger",
    structlog.wrap_logger(
        logging.getLogger("pgvector_sync"),
        processors=[structlog.stdlib.filter_by_level, *_SHARED, _hand_over],
        wrapper_class=BoundLogger,
    ),
)
"""Guarded even if nothing is configured. structlog's global settings belong to the application."""


def write_line(event: Event) -> None:
    """Log an event's name and fields; of an exception, its class, causes and place."""
    fields = event.fields()
    if isinstance(fields.get("error"), BaseException):
        fields["exc_info"] = fields.pop("error")
    _logger.log(event.level, event.name, **fields)
