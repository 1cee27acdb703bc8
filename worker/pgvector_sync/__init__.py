"""pgvector-sync keeps pgvector embeddings in step with the rows they describe.

import pgvector_sync

run_id = pgvector_sync.reembed("articles", where="updated_at < '2026-01-01'")
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

try:
    __version__ = version("pgvector-sync")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0.0.0"

if TYPE_CHECKING:
    from pgvector_sync.dispatch.registration import Celery

__all__ = ["__version__", "reconcile", "reembed", "register"]


def reembed(
    pipeline: str,
    *,
    where: str | None = None,
    keys: Iterable[int | str | Sequence[int | str]] | None = None,
    stale_only: bool = False,
    force: bool = False,
    rows_per_second: float | None = None,
    database_url: str | None = None,
) -> int:
    """Asks for a bulk re-embed, as `pgvector-sync reembed` does; returns the number of its run.

    It only writes a row: any worker carries it out. Rows are those for which the SQL condition `where` is true, or
    those of `keys` (a value for one key column, a sequence for several), else all. `database_url` is
    DATABASE_URL by default. Raises errors.Refused and errors.ConfigError, and psycopg.OperationalError.
    """
    from pgvector_sync.client import ask_for_reembed

    return ask_for_reembed(
        database_url,
        pipeline,
        where=where,
        keys=keys,
        stale_only=stale_only,
        force=force,
        rows_per_second=rows_per_second,
    )


def reconcile(pipeline: str, *, deep: bool = False, dry_run: bool = False, database_url: str | None = None) -> int:
    """Asks for a reconciliation, as `pgvector-sync reconcile` does; returns the number of its run.

    Raises errors.Refused and errors.ConfigError, and psycopg.OperationalError.
    """
    from pgvector_sync.client import ask_for_reconcile

    return ask_for_reconcile(database_url, pipeline, deep=deep, dry_run=dry_run)


def register(app: Celery, *, prefix: str = "pgvector_sync.") -> None:
    """Adds our tasks, queues, relay and beat entry to your own Celery app, whose workers then embed as well.

    Call it once, where the app is made. The queues are `live`, `bulk` and `maintenance`, each after `prefix`;
    logging, your own queues and settings, and the way to your broker stay as they are. DATABASE_URL and REDIS_URL
    are read when a worker starts. Raises errors.Refused for a second call with another prefix.
    """
    from pgvector_sync.dispatch.registration import register as register_with

    register_with(app, prefix=prefix)
