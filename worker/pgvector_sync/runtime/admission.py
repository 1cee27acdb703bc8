"""Whether this program may work with the schema, which a newer or older program may have migrated meanwhile."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import timedelta

from pgvector_sync.database import Database
from pgvector_sync.errors import MigrationRefused
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.store.migrations import check_schema
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.event import Words
from pgvector_sync.telemetry.events.process import SchemaFits, SchemaRefused

CHECK_EVERY = timedelta(seconds=15)
"""How long an answer counts. A migration that shuts out older programs runs after they have been stopped; this
bounds how long one that was forgotten goes on."""


@dataclass
class Admission:
    """Checks the schema's version from time to time, for one process."""

    database: Database
    _next: Deadline | None = None
    _refused: MigrationRefused | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def refused(self) -> MigrationRefused | None:
        """Return why this program must not work now; None if it may. Logs a change. Raises OUTAGE."""
        with self._lock:
            if self._next is None or self._next.passed:
                refused = self._look()
                self._next = Deadline.after(CHECK_EVERY)
                if str(refused) != str(self._refused):
                    _log(refused)
                self._refused = refused
            return self._refused

    def require(self) -> None:
        """Raise MigrationRefused if this program must not work now."""
        refused = self.refused()
        if refused is not None:
            raise MigrationRefused(str(refused), hint=refused.hint)

    def _look(self) -> MigrationRefused | None:
        try:
            with self.database.transaction(read_only=True) as connection:
                check_schema(connection)
        except MigrationRefused as refused:
            return refused
        return None


def _log(refused: MigrationRefused | None) -> None:
    if refused is None:
        emit(SchemaFits())
    else:
        emit(SchemaRefused(reason=Words(str(refused)), hint=Words(refused.hint) if refused.hint else None))
