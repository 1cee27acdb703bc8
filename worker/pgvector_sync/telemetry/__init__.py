"""What has happened, and who is told? Events (`events/`), and the sinks that each of them goes to (`sinks.py`).

    emit(BatchWritten(pipeline="articles", stored=256, …))

The log (`log.py`) is the first sink. Nothing that leaves through it may hold source text or a secret (G13): fields
are typed (`event.py`), and every line passes a guard (`leaks.py`).
"""

from __future__ import annotations

from pgvector_sync.telemetry.log import configure_logging
from pgvector_sync.telemetry.sinks import add_sink, emit, remove_sink

__all__ = ["add_sink", "configure_logging", "emit", "remove_sink"]
