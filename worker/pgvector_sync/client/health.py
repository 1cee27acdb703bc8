"""The health check: cheap enough for a probe that runs every few seconds.

Imports are most of the cost of a probe, so this module imports only what its queries need.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

CONNECT_TIMEOUT = timedelta(seconds=3)
COUNT_LIMIT_ROWS = 1_000
"""Waiting rows are counted up to this limit, since the check only needs to know whether any row waits."""


@dataclass(frozen=True, slots=True)
class Health:
    """The result of a check. `problems` is empty if rows are being embedded."""

    problems: tuple[str, ...]
    lag: timedelta | None = None
    """The age of the oldest waiting change; None if nothing waits."""
    workers: int = 0
    slots: int = 0
    """The number of batches that the workers can process at the same time."""
    exit_code: int = 0
    """0: healthy; 1: unhealthy; 2: invalid configuration."""

    @property
    def healthy(self) -> bool:
        return not self.problems


def check(database_url: str, *, max_lag: timedelta | None = None) -> Health:
    """Check the database once. A lag above `max_lag` is a problem, and so is any error of the database."""
    import psycopg
    from psycopg.rows import dict_row

    from pgvector_sync.errors import ConfigError
    from pgvector_sync.settings.database_url import libpq_url
    from pgvector_sync.store import status, workers

    try:
        with psycopg.connect(
            libpq_url(database_url), connect_timeout=int(CONNECT_TIMEOUT.total_seconds()), row_factory=dict_row,
            prepare_threshold=None, application_name="pgvector-sync health", autocommit=True,
        ) as connection:  # fmt: skip
            pipelines = status.pipelines(connection, limit=COUNT_LIMIT_ROWS)
            alive = workers.alive(connection)
    except ConfigError as error:
        return Health((str(error),), exit_code=2)
    except psycopg.ProgrammingError as error:
        if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName):
            return Health(("the schema is missing or outdated: run `pgvector-sync migrate`",), exit_code=1)
        return Health((f"the database rejected the query ({error.sqlstate})",), exit_code=1)
    except psycopg.Error as error:
        reason = (str(error).strip().splitlines() or ["no response"])[0]
        return Health((f"the database is out of reach: {reason}",), exit_code=1)
    return _judge(pipelines, alive, max_lag)


def _judge(pipelines: list[dict[str, Any]], alive: Any, max_lag: timedelta | None) -> Health:
    from pgvector_sync.database.loaders import duration

    running = [row for row in pipelines if row["state"] != "paused"]  # paused on purpose
    lag = duration(max((row["lag_seconds"] for row in running if row["lag_seconds"] is not None), default=None))
    problems = [
        f"{row['name']} is misconfigured: {row['reason'] or 'see pgvector-sync status'}"
        for row in running
        if row["state"] == "misconfigured"
    ]
    if not alive.slots and any(row["events"] or row["alive"] or row["backfilling"] for row in running):
        problems.append("no worker is running, and rows wait")
    if max_lag is not None and lag is not None and lag > max_lag:
        problems.append(f"lag {lag.total_seconds():,.1f} s, above {max_lag.total_seconds():g} s")
    return Health(tuple(problems), lag=lag, workers=alive.alive, slots=alive.slots, exit_code=1 if problems else 0)
