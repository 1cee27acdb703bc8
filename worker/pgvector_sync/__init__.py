"""pgvector-sync keeps pgvector embeddings in step with the rows they describe.

    from pgvector_sync import Sync

    with Sync() as sync:
        sync.reembed("articles", where="updated_at < '2026-01-01'")

docs/python.md describes the names exported here. All others may change without notice.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pgvector_sync.errors import (
    BrokenContract,
    ConfigError,
    DatabaseRefuses,
    InputRejected,
    MigrationRefused,
    Misconfigured,
    OutOfTime,
    ProviderError,
    RateLimited,
    Refused,
    SyncError,
    Unavailable,
)

if TYPE_CHECKING:
    __version__: str
    from pgvector_sync.client.results import Reconciliation, Resumed, Status
    from pgvector_sync.client.sync import Sync
    from pgvector_sync.dispatch.registration import Celery
    from pgvector_sync.model.request import Backfill, Reconcile, Reembed, Unreadable
    from pgvector_sync.model.search import Hit, Hits, QueryVector
    from pgvector_sync.observe.status import PipelineStatus
    from pgvector_sync.runs.estimate import Estimate
    from pgvector_sync.runs.requests import Requested
    from pgvector_sync.settings import Settings
    from pgvector_sync.store.dead_letters import DeadLetter
    from pgvector_sync.store.drift import Figures
    from pgvector_sync.store.runs import Run
    from pgvector_sync.store.workers import Workers

__all__ = [
    "Backfill",
    "BrokenContract",
    "ConfigError",
    "DatabaseRefuses",
    "DeadLetter",
    "Estimate",
    "Figures",
    "Hit",
    "Hits",
    "InputRejected",
    "MigrationRefused",
    "Misconfigured",
    "OutOfTime",
    "PipelineStatus",
    "ProviderError",
    "QueryVector",
    "RateLimited",
    "Reconcile",
    "Reconciliation",
    "Reembed",
    "Refused",
    "Requested",
    "Resumed",
    "Run",
    "Settings",
    "Status",
    "Sync",
    "SyncError",
    "Unavailable",
    "Unreadable",
    "Workers",
    "__version__",
    "register",
]

_LAZY = {
    "Backfill": "model.request",
    "DeadLetter": "store.dead_letters",
    "Estimate": "runs.estimate",
    "Figures": "store.drift",
    "Hit": "model.search",
    "Hits": "model.search",
    "PipelineStatus": "observe.status",
    "QueryVector": "model.search",
    "Reconcile": "model.request",
    "Reconciliation": "client.results",
    "Reembed": "model.request",
    "Requested": "runs.requests",
    "Resumed": "client.results",
    "Run": "store.runs",
    "Settings": "settings",
    "Status": "client.results",
    "Sync": "client.sync",
    "Unreadable": "model.request",
    "Workers": "store.workers",
}
"""Imported on first use, so that `import pgvector_sync` is cheap, as `pgvector-sync health` requires."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _installed_version()
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


def _installed_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("pgvector-sync")
    except PackageNotFoundError:  # run from a source tree without an installation
        return "0.0.0"


def register(app: Celery, *, prefix: str = "pgvector_sync.") -> None:
    """Add the tasks, queues, relay and beat entry of pgvector-sync to your own Celery app.

    app: your app. Its workers then embed rows too. Its own queues, settings, logging and broker don't change.
    prefix: precedes the names of the queues `live`, `bulk` and `maintenance`.

    Call it once, where the app is created. DATABASE_URL and REDIS_URL are read when a worker starts. Raises
    Refused for a second call with another prefix.
    """
    from pgvector_sync.dispatch.registration import register as register_with

    register_with(app, prefix=prefix)
