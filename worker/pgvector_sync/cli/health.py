"""`health`: one line and an exit code, for probes and cron.

Probes call it every few seconds, and most of a command's cost is imports. This module therefore imports only what
its query needs: no Celery, Redis, providers or tables, and of the settings only DATABASE_URL.
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
from pgvector_sync.model.counted import counted
from pgvector_sync.telemetry.printable import printable

HELP = "Check that changes are being embedded. Exits 0 if so, 1 if not, and 2 for an invalid configuration."
MAX_LAG_HELP = "Fail if a change has waited for more than this many seconds."
JSON_HELP = "Print a JSON document on one line, see docs/json.md."


def run(arguments: list[str]) -> NoReturn:
    """Run the command with its command-line `arguments` and exit."""
    parser = argparse.ArgumentParser("pgvector-sync health", description=HELP)
    parser.add_argument("--max-lag", type=float, metavar="SECONDS", help=MAX_LAG_HELP)
    parser.add_argument("--json", action="store_true", help=JSON_HELP)
    options = parser.parse_args(arguments)
    health = check(max_lag=options.max_lag)
    if options.json:
        fields = {name: value for name, value in fields_of(health).items() if name != "exit_code"}
        print(write_document({"healthy": health.healthy, **fields}, indent=None))  # noqa: T201
    else:
        print(printable(_line(health)))  # noqa: T201
    sys.exit(health.exit_code)


def _line(health: Health) -> str:
    if health.problems:
        return f"unhealthy: {'; '.join(health.problems)}"
    lag = "nothing waits" if health.lag is None else f"lag {health.lag.total_seconds():,.1f} s"
    return f"healthy: {lag}, {counted(health.workers, 'worker')}"


def check(*, max_lag: float | None = None) -> Health:
    """Check the database of this environment; `max_lag` is in seconds."""
    from pgvector_sync.errors import SyncError

    try:
        url = _database_url()
    except SyncError as error:  # `.env` or `.pgvector-sync` belongs to another user
        return Health((str(error),), exit_code=2)
    if url is None:
        return Health(("DATABASE_URL is not set",), exit_code=2)
    return client.check(url, max_lag=None if max_lag is None else timedelta(seconds=max_lag))


def _database_url() -> str | None:
    """Return what Settings would: from the environment, `.env`, or an embedded server of the current folder."""
    for name in ("DATABASE_URL", "database_url"):
        if os.environ.get(name):
            return os.environ[name]
    if os.path.exists(".env"):  # noqa: PTH110 - pathlib alone costs as much as the query
        from dotenv import dotenv_values

        from pgvector_sync.settings.env_file import require_own_env_file

        require_own_env_file()
        url = {name.upper(): value for name, value in dotenv_values(".env").items()}.get("DATABASE_URL")
        if url:
            return url
    if os.path.isdir(".pgvector-sync"):  # noqa: PTH112
        from pgvector_sync.cli.environment import use_embedded_if_running

        use_embedded_if_running()
    return os.environ.get("DATABASE_URL") or None
