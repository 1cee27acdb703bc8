"""Events (`events/`), and the sinks to which each of them is sent (`sinks.py`).

    emit(BatchWritten(pipeline="articles", stored=256, …))

The log (`log.py`) is the first sink. It must never contain source text or a secret (G13): fields are typed
(`event.py`), and every line passes a guard (`leaks.py`). Lines have the fields of the block around them
(`context.py`). What takes time and contains other things is a span (`spans.py`).
"""

from __future__ import annotations

from pgvector_sync.telemetry.context import bound
from pgvector_sync.telemetry.log import configure_logging
from pgvector_sync.telemetry.sinks import add_sink, emit, remove_sink

__all__ = ["add_sink", "bound", "configure_logging", "emit", "remove_sink"]
