"""Which database a command uses: the one in DATABASE_URL, or the embedded one of the current folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pgvector_sync.cli.console import say
from pgvector_sync.client.sync import Sync
from pgvector_sync.database import begin, connect
from pgvector_sync.runtime import Runtime
from pgvector_sync.runtime.bootstrap import open_runtime
from pgvector_sync.settings import limits, load_settings
from pgvector_sync.store.grants import require_sole_author
from pgvector_sync.store.migrations import check_schema


def use_embedded_if_running() -> None:
    """Without a DATABASE_URL, use the embedded servers in `.pgvector-sync/` if they are running, and say so."""
    if load_settings().database_url is not None:
        return
    # imported only now, since most commands are given a database
    from pgvector_sync.local import servers

    folder = servers.use_running()
    if folder is not None:
        say(f"using the embedded Postgres and Valkey of {folder}")


@contextmanager
def open_sync() -> Iterator[Sync]:
    """Open a `Sync`, for commands that need nothing else. Raises ConfigError."""
    use_embedded_if_running()
    with Sync() as sync:
        yield sync


@contextmanager
def runtime(*, working: bool = False, max_connections: int = 4) -> Iterator[Runtime]:
    """Open a runtime. With `working`, also check that the limits in the settings are consistent.

    Raises ConfigError, and MigrationRefused if the schema is missing or has another version.
    """
    use_embedded_if_running()
    settings = load_settings()
    if working:
        limits.require(settings)
    with (
        connect(
            settings.database()
        ) as connection,  # fails at once if the database is out of reach; the pool would retry for seconds
        begin(connection, lock_timeout=settings.lock_timeout, read_only=True),
    ):
        check_schema(connection)
        if working:
            require_sole_author(connection)
    with open_runtime(settings, max_connections=max_connections, working=working) as opened:
        yield opened
