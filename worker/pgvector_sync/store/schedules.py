"""When each pipeline was last reconciled, and its schedule."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pgvector_sync.database import Connection
from pgvector_sync.database.statements import statement


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A pipeline that may be reconciled, and when it last was."""

    id: int
    name: str
    reconcile: dict[str, Any]
    """The schedule, as it is stored."""
    now: datetime
    created_at: datetime
    last_at: datetime | None
    last_deep_at: datetime | None


def all_schedules(connection: Connection) -> list[Scheduled]:
    """Returns every pipeline that may be reconciled."""
    return [Scheduled(**row) for row in connection.execute(statement("schedules.all"))]
