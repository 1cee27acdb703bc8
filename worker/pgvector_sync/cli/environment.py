"""Where the command runs: a database of the user's own, or the embedded one of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pgvector_sync.cli.console import say
from pgvector_sync.client.sync import Sync
from pgvector_sync.database import begin, connect
from pgvector_sync.local import servers
from pgvector_sync.runtime import Runtime
from pgvector_sync.runtime.bootstrap import open_runtime
from pgvector_sync.settings import limits, load_settings
from pgvector_sync.store.grants import require_sole_author
from pgvector_sync.store.migrations import check_schema


def use_embedded_if_running() -> None:
    """Without a DATABASE_URL, a running `.pgvector-sync/` of this folder serves, and is said to."""
    folder = servers.use_running()
    if folder is not None:
        say(f"using the embedded Postgres and Valkey of {folder}")


@contextmanager
def open_sync() -> Iterator[Sync]:
    """The database's verbs, for commands that need no more. Raises ConfigError."""
    use_embedded_if_running()
    with Sync() as sync:
        yield sync


@contextmanager
def runtime(*, working: bool = False) -> Iterator[Runtime]:
    """A runtime on a database whose schema is this program's; `working`: with limits that can work.

    Raises ConfigError, MigrationRefused.
    """
    use_embedded_if_running()
    settings = load_settings()
    if working:
        limits.require(settings)
    with (
        connect(settings.database()) as connection,  # before the pool, which would try for seconds
        begin(connection, lock_timeout=settings.lock_timeout, read_only=True),
    ):
        check_schema(connection)
        if working:
            require_sole_author(connection)
    with open_runtime(settings, working=working) as opened:
        yield opened
