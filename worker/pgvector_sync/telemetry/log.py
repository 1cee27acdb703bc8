"""The first sink: one line on stderr per event, in the same form as the lines of libraries.

Stdout is for the output of commands.
"""

from __future__ import annotations

import logging
import sys
from functools import cache, cached_property
from typing import TYPE_CHECKING, Protocol, TextIO

from pgvector_sync.telemetry.event import Event

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger


class LogSettings(Protocol):
    """The part of Settings that logging needs, so that neither module imports the other."""

    @property
    def log_format(self) -> str:
        """`console` or `json`."""

    @property
    def log_level(self) -> str:
        """`DEBUG`, `INFO`, `WARNING` or `ERROR`."""


# At DEBUG these log whole requests, including texts.
_VERBOSE = ("openai", "httpx", "httpx2", "httpcore", "httpcore2", "urllib3", "huggingface_hub", "asyncio")
# These log a line per message. Our own events report the same per batch.
_PER_MESSAGE = ("celery.worker.strategy", "celery.app.trace")


class _Stderr(logging.StreamHandler[TextIO]):
    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr  # the current one: daemons and tests replace it
        super().emit(record)


class _Formatter(logging.Formatter):
    """Imports what forms lines when the first line is written."""

    def __init__(self, log_format: str) -> None:
        super().__init__()
        self._log_format = log_format

    @cached_property
    def _lines(self) -> logging.Formatter:
        from pgvector_sync.telemetry import lines

        return lines.formatter(self._log_format)

    def format(self, record: logging.LogRecord) -> str:
        return self._lines.format(record)


_handlers: list[logging.Handler] = []
"""The handlers that `configure_logging` has created. All others belong to an application."""


def configure_logging(settings: LogSettings) -> None:
    """Send our lines and those of all libraries to stderr, in the same form and through the same guard.

    Replaces the handlers of the root logger. May be called again. With Celery, call it in `setup_logging`.
    """
    handler = _Stderr()
    handler.setFormatter(_Formatter(settings.log_format))
    root = logging.getLogger()
    root.handlers[:] = _handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in _VERBOSE:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for name in _PER_MESSAGE:
        quiet = logging.DEBUG if root.level == logging.DEBUG else max(logging.WARNING, root.level)
        logging.getLogger(name).setLevel(quiet)


@cache
def _logger() -> BoundLogger:
    from pgvector_sync.telemetry import lines

    return lines.logger(is_ours=lambda: bool(_handlers))


def write_line(event: Event) -> None:
    """Log an event's name and fields; of an exception, its class, causes and place."""
    fields = event.fields()
    if isinstance(fields.get("error"), BaseException):
        fields["exc_info"] = fields.pop("error")
    _logger().log(event.level, event.name, **fields)
