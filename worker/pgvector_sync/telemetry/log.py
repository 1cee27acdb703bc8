"""The first sink: one line on stderr per event, in the same form as those of libraries.

Stdout is for a command's output.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Protocol, TextIO, cast

import structlog
from structlog.stdlib import BoundLogger, ProcessorFormatter

from pgvector_sync.telemetry.event import Event
from pgvector_sync.telemetry.leaks import guard, speak_errors

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger


class LogSettings(Protocol):
    """The part of Settings that logging needs; the two modules don't know each other."""

    @property
    def log_format(self) -> str:
        """`console` or `json`."""

    @property
    def log_level(self) -> str:
        """`DEBUG`, `INFO`, `WARNING` or `ERROR`."""


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


_logger = cast(
    "BoundLogger",
    structlog.wrap_logger(
        logging.getLogger("pgvector_sync"),
        processors=[structlog.stdlib.filter_by_level, *_SHARED, _hand_over],
        wrapper_class=BoundLogger,
    ),
)
"""Guarded even where nothing is configured. structlog's global settings are left to the application."""


def write_line(event: Event) -> None:
    """The log as a sink: an event's name and fields; an exception is shown by class, causes and place."""
    fields = event.fields()
    if isinstance(fields.get("error"), BaseException):
        fields["exc_info"] = fields.pop("error")
    _logger.log(event.level, event.name, **fields)
