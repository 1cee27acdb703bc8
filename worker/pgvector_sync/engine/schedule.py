"""When a pipeline's schedule asks for a reconciliation, and how a schedule is shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cronsim import CronSim

from pgvector_sync.database import Connection
from pgvector_sync.model import Schedule, in_window
from pgvector_sync.store import schedules

EVERY = timedelta(minutes=1)
"""How often schedules are looked at."""


def due(connection: Connection) -> list[tuple[str, Schedule, bool]]:
    """Name, schedule, and whether the texts are compared as well."""
    found = []
    for stored in schedules.all_schedules(connection):
        schedule = Schedule.read(stored.reconcile)
        if is_due(schedule, stored.last_at or stored.created_at, stored.now):
            unlooked = stored.now - (stored.last_deep_at or stored.created_at)
            deep = schedule.deep_every is not None and unlooked >= schedule.deep_every
            found.append((stored.name, schedule, deep))
    return found


def is_due(schedule: Schedule, last: datetime, now: datetime) -> bool:
    """Whether a reconciliation has to begin, the last one having begun at `last`."""
    if schedule.window is not None and not in_window(schedule.window, now):
        return False
    if schedule.cron is not None:
        return next(CronSim(schedule.cron, last.astimezone(UTC)), now + EVERY) <= now
    return schedule.every is not None and now - last >= schedule.every
