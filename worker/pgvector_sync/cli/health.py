"""`health`: one line and an exit code, for probes and cron.

It is asked every few seconds, and importing is most of what a command costs: here nothing is imported but what one
query needs. Celery, Redis, providers, tables and settings other than DATABASE_URL are left out.
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import timedelta
from typing import NoReturn

from pgvector_sync.client import health as client
from pgvector_sync.client.documents import fields_of, write_document
from pgvector_sync.client.health import Health
from pgvector_sync.telemetry.printable import printable

HELP = "Check that rows are embedded; exit 0 if so, 1 if not, 2 for a wrong configuration."
MAX_LAG_HELP = "Seconds that a change may wait."
JSON_HELP = "Print a JSON document on one line, see docs/json.md."


def run(arguments: list[str]) -> NoReturn:
    """Checks, prints and exits."""
    parser = argparse.ArgumentParser("pgvector-sync health", description=HELP)
    parser.add_argument("--max-lag", type=float, metavar="SECONDS", help=MAX_LAG_HELP)
    parser.add_argument("--json", action="store_true", help=JSON_HELP)
    given = parser.parse_args(arguments)
    found = check(max_lag=given.max_lag)
    if given.json:
        fields = {name: value for name, value in fields_of(found).items() if name != "exit_code"}
        print(write_document({"healthy": found.healthy, **fields}, indent=None))  # noqa: T201
    else:
        print(printable(_line(found)))  # noqa: T201
    sys.exit(found.exit_code)


def _line(found: Health) -> str:
    if found.problems:
        return f"unhealthy: {'; '.join(found.problems)}"
    lag = "nothing waits" if found.lag is None else f"lag {found.lag.total_seconds():,.1f} s"
    return f"healthy: {lag}, {found.workers} worker{'' if found.workers == 1 else 's'}"


def check(*, max_lag: float | None = None) -> Health:
    """The database of this environment; `max_lag` in seconds."""
    from pgvector_sync.errors import SyncError

    try:
        url = _database_url()
    except SyncError as error:  # a `.env` or a `.pgvector-sync` of somebody else
        return Health((str(error),), exit_code=2)
    if url is None:
        return Health(("DATABASE_URL is not set",), exit_code=2)
    return client.check(url, max_lag=None if max_lag is None else timedelta(seconds=max_lag))


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
