"""What happens by itself: reconciliations that are due, and what has served long enough is forgotten.

Beat's tick asks, and so does `sync`. The database says what was done last and what time it is, so that two beats
do no harm, and a day without any is made up for by one reconciliation.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
from cronsim import CronSim

from pgvector_sync.database import IN_THE_WAY, OUTAGE, Connection, Database
from pgvector_sync.errors import DatabaseRefuses, Refused
from pgvector_sync.model import Schedule, in_window
from pgvector_sync.runs.requests import request_reconcile
from pgvector_sync.settings import Settings
from pgvector_sync.store import dead_letters, drift, pipelines, runs, schedules, usage
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.batch import DeadLettersDiscarded
from pgvector_sync.telemetry.events.runs import ReconcileDue, ReconcileNotStarted

LOOK_EVERY = timedelta(minutes=1)
TIDY_EVERY = timedelta(hours=1)
UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def look(database: Database, settings: Settings) -> list[str]:
    """Asks for the reconciliations that are due; returns the pipelines. Tidies up once an hour."""
    with database.transaction() as connection:
        if not usage.take_tick(connection, "schedule", uuid4(), every=LOOK_EVERY * 0.9):
            return []
        due = _due(connection)
        if usage.take_tick(connection, "tidy", uuid4(), every=TIDY_EVERY):
            tidy(connection, settings)
    started = []
    for name, schedule, deep in due:
        try:
            request_reconcile(
                database,
                name,
                deep=deep,
                page_rows=schedule.page_rows,
                database_share=schedule.database_share,
                window=None if schedule.window is None else [at.isoformat() for at in schedule.window],
            )
        except (
            Refused,
            DatabaseRefuses,
            *IN_THE_WAY,
        ):  # one is running, the pipeline is being removed, or its source is locked
            continue
        except OUTAGE:
            raise
        except psycopg.Error as error:  # its source is gone or closed to us: no reason that the others wait
            emit(ReconcileNotStarted(pipeline=name, sqlstate=error.sqlstate))
            continue
        emit(ReconcileDue(pipeline=name, deep=deep))
        started.append(name)
    return started


def _due(connection: Connection) -> list[tuple[str, Schedule, bool]]:
    """Name, schedule, and whether the texts are compared as well."""
    found = []
    for stored in schedules.all_schedules(connection):
        schedule = pipelines.schedule_of(stored.reconcile)
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
        return next(CronSim(schedule.cron, last.astimezone(UTC)), now + LOOK_EVERY) <= now
    return schedule.every is not None and now - last >= schedule.every


def as_written(schedule: Schedule) -> str:
    """What differs from the defaults, as one writes it in the file."""
    written = {
        "every": _duration(schedule.every),
        "cron": schedule.cron,
        "deep_every": _duration(schedule.deep_every),
        "window": schedule.window and "-".join(f"{at:%H:%M}" for at in schedule.window),
        "page_rows": schedule.page_rows,
        "database_share": schedule.database_share,
        "orphan_share": schedule.orphan_share,
    }
    differing = [name for name in written if getattr(schedule, name) != getattr(Schedule(), name)]
    return ", ".join(f"{name} {written[name]}" for name in differing) or "default"


def _duration(length: timedelta | None) -> str:
    if length is None:
        return "off"
    seconds = int(length.total_seconds())
    size, unit = next(pair for pair in UNITS if seconds % pair[0] == 0)
    return f"{seconds // size}{unit}"


def tidy(connection: Connection, settings: Settings) -> None:
    """Old runs and figures go; old dead letters are set aside, if that is wanted."""
    runs.forget(connection, older_than=settings.keep_runs)
    drift.forget(connection, older_than=settings.keep_drift)
    if settings.discard_dead_letters_after is not None:
        discarded = dead_letters.discard_old(connection, older_than=settings.discard_dead_letters_after)
        if discarded:
            emit(DeadLettersDiscarded(rows=discarded))
