"""`health`: one line and an exit code, for probes and cron.

It is asked every few seconds, and importing is most of what a command costs: here nothing is imported but what one
query needs. Celery, Redis, providers, tables and settings other than DATABASE_URL are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from pgvector_sync.telemetry.printable import printable, printable_json

CONNECT_SECONDS = 3
COUNT_LIMIT_ROWS = 1_000
"""Whether something waits is all that matters, and the lag is of the oldest."""
HELP = "Check that rows are embedded; exit 0 if so, 1 if not, 2 for a wrong configuration."
MAX_LAG_HELP = "Seconds that a change may wait."
JSON_HELP = "For machines; the shape is documented and stable."


@dataclass(frozen=True, slots=True)
class Health:
    """What was found. `problems` is empty where all is well."""

    problems: tuple[str, ...]
    lag_seconds: float | None = None
    workers: int = 0
    slots: int = 0
    exit_code: int = 0


def run(arguments: list[str]) -> NoReturn:
    """Checks, prints and exits."""
    parser = argparse.ArgumentParser("pgvector-sync health", description=HELP)
    parser.add_argument("--max-lag", type=float, metavar="SECONDS", help=MAX_LAG_HELP)
    parser.add_argument("--json", action="store_true", help=JSON_HELP)
    given = parser.parse_args(arguments)
    found = check(max_lag=given.max_lag)
    if given.json:
        fields = {name: value for name, value in asdict(found).items() if name != "exit_code"}
        print(printable_json(json.dumps({"version": 1, "healthy": not found.problems, **fields})))  # noqa: T201
    else:
        print(printable(_line(found)))  # noqa: T201
    sys.exit(found.exit_code)


def _line(found: Health) -> str:
    if found.problems:
        return f"unhealthy: {'; '.join(found.problems)}"
    lag = "nothing waits" if found.lag_seconds is None else f"lag {found.lag_seconds:,.1f} s"
    return f"healthy: {lag}, {found.workers} worker{'' if found.workers == 1 else 's'}"


def check(*, max_lag: float | None = None) -> Health:
    """Asks the database, once."""
    from pgvector_sync.errors import SyncError

    try:
        url = _database_url()
    except SyncError as error:  # a `.env` or a `.pgvector-sync` of somebody else
        return Health((str(error),), exit_code=2)
    if url is None:
        return Health(("DATABASE_URL is not set",), exit_code=2)
    import psycopg
    from psycopg.rows import dict_row

    from pgvector_sync.errors import ConfigError
    from pgvector_sync.settings.database_url import libpq_url
    from pgvector_sync.store import status, workers

    try:
        with psycopg.connect(
            libpq_url(url), connect_timeout=CONNECT_SECONDS, row_factory=dict_row, prepare_threshold=None,
            application_name="pgvector-sync health", autocommit=True,
        ) as connection:  # fmt: skip
            pipelines = status.pipelines(connection, limit=COUNT_LIMIT_ROWS)
            alive = workers.alive(connection)
    except ConfigError as error:
        return Health((str(error),), exit_code=2)
    except psycopg.ProgrammingError as error:
        if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName):
            return Health(("the schema is missing or older: run `pgvector-sync migrate`",), exit_code=1)
        return Health((f"the database refuses the query ({error.sqlstate})",), exit_code=1)
    except psycopg.Error as error:
        reason = (str(error).strip().splitlines() or ["no answer"])[0]
        return Health((f"the database is out of reach: {reason}",), exit_code=1)
    return _judge(pipelines, alive, max_lag)


def _judge(pipelines: list[dict[str, Any]], alive: Any, max_lag: float | None) -> Health:
    running = [row for row in pipelines if row["state"] != "paused"]  # a paused one waits for a person
    lags = [row["lag_seconds"] for row in running if row["lag_seconds"] is not None]
    lag = max(lags, default=None)
    problems = [
        f"{row['name']} is misconfigured: {row['reason'] or 'see pgvector-sync status'}"
        for row in running
        if row["state"] == "misconfigured"
    ]
    if not alive.slots and any(row["events"] or row["alive"] or row["filling"] for row in running):
        problems.append("no worker is running, and rows wait")
    if max_lag is not None and lag is not None and lag > max_lag:
        problems.append(f"lag {lag:,.1f} s, above {max_lag:g} s")
    return Health(
        tuple(problems),
        lag_seconds=None if lag is None else round(lag, 3),
        workers=alive.alive,
        slots=alive.slots,
        exit_code=1 if problems else 0,
    )


def _database_url() -> str | None:
    """As Settings has it: the environment, else `.env`, else an embedded server of this folder."""
    for name in ("DATABASE_URL", "database_url"):
        if os.environ.get(name):
            return os.environ[name]
    if os.path.exists(".env"):  # noqa: PTH110 - pathlib alone costs as much as the query
        from dotenv import dotenv_values

        from pgvector_sync.settings.env_file import require_own_env_file

        require_own_env_file()
        found = {name.upper(): value for name, value in dotenv_values(".env").items()}.get("DATABASE_URL")
        if found:
            return found
    if os.path.isdir(".pgvector-sync"):  # noqa: PTH112
        from pgvector_sync.cli.environment import use_embedded_if_running

        use_embedded_if_running()
    return os.environ.get("DATABASE_URL") or None
