"""Forms the lines of the log, with structlog. Imported with the first line, since most commands log nothing."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import structlog
from structlog.stdlib import BoundLogger, ProcessorFormatter

from pgvector_sync.telemetry.leaks import describe_errors, guard
from pgvector_sync.telemetry.spans import add_ids

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

# The order matters: the guard is last, so that it sees everything that the others have added.
_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    add_ids,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    describe_errors,
    guard,
]


def formatter(log_format: str) -> logging.Formatter:
    """Return the formatter of our own handler, for our lines and those of libraries."""
    renderer: Processor
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    return ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, *_SHARED],
        processors=[ProcessorFormatter.remove_processors_meta, renderer],
    )


def logger(*, is_ours: Callable[[], bool]) -> BoundLogger:
    """Return the logger of our events. It is guarded even if nothing is configured.

    is_ours: whether our own handler forms the line; if not, the application's handlers receive a line of text.
    structlog's global settings belong to the application.
    """

    def hand_over(logger: WrappedLogger, method: str, fields: EventDict) -> Any:
        if is_ours():
            return ProcessorFormatter.wrap_for_formatter(logger, method, fields)
        added = ("event", "level", "timestamp")
        pairs = [f"{name}={value}" for name, value in fields.items() if name not in added and value is not None]
        return " ".join([str(fields["event"]), *pairs])

    return cast(
        "BoundLogger",
        structlog.wrap_logger(
            logging.getLogger("pgvector_sync"),
            processors=[structlog.stdlib.filter_by_level, *_SHARED, hand_over],
            wrapper_class=BoundLogger,
        ),
    )
