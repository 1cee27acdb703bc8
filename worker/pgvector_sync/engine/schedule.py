"""Decide when a pipeline's schedule requires a reconciliation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cronsim import CronSim

from pgvector_sync.database import Connection
from pgvector_sync.model import Schedule, in_window
from pgvector_sync.store import schedules

EVERY = timedelta(minutes=1)
"""How often schedules are checked."""


def due(connection: Connection) -> list[tuple[str, Schedule, bool]]:
    """Return name, schedule and whether to compare texts (deep) of each pipeline that is due."""
    reconciles = []
    for stored in schedules.all_schedules(connection):
        schedule = Schedule.read(stored.reconcile)
        if is_due(schedule, stored.last_at or stored.created_at, stored.now):
            since_deep = stored.now - (stored.last_deep_at or stored.created_at)
            deep = schedule.deep_every is not None and since_deep >= schedule.deep_every
            reconciles.append((stored.name, schedule, deep))
    return reconciles


def is_due(schedule: Schedule, last: datetime, now: datetime) -> bool:
    """Whether a reconciliation is due at `now` if the last one began at `last`."""
    if schedule.window is not None and not in_window(schedule.window, now):
        return False
    if schedule.cron is not None:
        return next(CronSim(schedule.cron, last.astimezone(UTC)), now + EVERY) <= now
    return schedule.every is not None and now - last >= schedule.every
