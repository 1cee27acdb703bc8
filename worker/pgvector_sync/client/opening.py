"""The connection of a `Sync`: opened by its first call, with one pool per process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import psycopg
from pydantic import SecretStr

from pgvector_sync.client.lent import reading_on
from pgvector_sync.database import Connection, connect
from pgvector_sync.database.explain import explain
from pgvector_sync.errors import Refused
from pgvector_sync.observe.query import QueryEmbedder
from pgvector_sync.runtime import Runtime
from pgvector_sync.runtime.bootstrap import Embedders, open_database
from pgvector_sync.settings import Settings, load_settings
from pgvector_sync.store import pipelines
from pgvector_sync.store.conditions import KnownConditions
from pgvector_sync.store.migrations import check_schema

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

    from pgvector_sync.observe.query_sampling import QuerySampler
    from pgvector_sync.observe.search import Reading, Searcher

MAX_CONNECTIONS = 4
MAX_THREADS = 8
"""The maximum number of calls of the asynchronous methods that run at the same time; the others wait."""
_GRANT = (
    "GRANT USAGE ON SCHEMA pgvector_sync TO …; GRANT SELECT ON pgvector_sync.applied_migration, "
    "pgvector_sync.provider, pgvector_sync.source, pgvector_sync.pipeline, pgvector_sync.learned TO …; "
    "-- or run sql/roles.sql again"
)
"""What a role needs in our schema to search."""


@dataclass
class _Opened:
    """The open resources of one process. A forked child opens its own."""

    pid: int
    settings: Settings
    embedders: Embedders
    queries: QueryEmbedder
    conditions: KnownConditions = field(default_factory=KnownConditions)
    runtime: Runtime | None = None
    """None until a method needs a connection of our own."""
    schema_checked: bool = False
    threads: ThreadPoolExecutor | None = None
    sampler: QuerySampler | None = None
    """None until a search, and while PGVECTOR_SYNC_SAMPLE_QUERIES is 0."""

    def open_runtime(self) -> Runtime:
        if self.runtime is None:
            # fails at once if the database is unreachable; the pool would retry for seconds
            connect(self.settings.database()).close()
            database = open_database(self.settings, max_connections=MAX_CONNECTIONS)
            self.runtime = Runtime(self.settings, database, self.embedders)
        return self.runtime

    def open_sampler(self) -> QuerySampler | None:
        if self.sampler is None and self.settings.sample_queries:
            from pgvector_sync.observe.query_sampling import QuerySampler

            self.sampler = QuerySampler(self.settings)
        return self.sampler

    def check_schema(self, reading: Reading) -> None:
        if not self.schema_checked:
            with reading() as connection:
                check_schema(connection)
            self.schema_checked = True

    def close(self) -> None:
        if self.threads is not None:
            self.threads.shutdown(wait=False)
        if self.sampler is not None:
            self.sampler.close()
        if self.runtime is not None:
            self.runtime.database.close()
        self.embedders.close()


class Opening:
    """The part of `Sync` that opens a runtime on first use, and closes it."""

    def __init__(
        self,
        database_url: str | None = None,
        *,
        settings: Settings | None = None,
        pool: ConnectionPool[Any] | None = None,
    ) -> None:
        settings = settings or load_settings()
        if database_url is not None:
            settings = settings.model_copy(update={"database_url": SecretStr(database_url)})
        if pool is None:
            settings.database()  # raises ConfigError here rather than at the first call
        self._settings = settings
        self._pool = pool
        self._opened: _Opened | None = None
        self._closed = False
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close all connections. Later calls raise Refused."""
        with self._lock:
            self._closed = True
            opened, self._opened = self._opened, None
        if opened is not None and opened.pid == os.getpid():
            opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _runtime(self, pipeline: str | None = None, *, check_schema: bool = True) -> Iterator[Runtime]:
        """Yield the runtime of this process. Raises Refused for a missing privilege or an unknown `pipeline`."""
        try:
            with self._lock:
                opened = self._open()
                runtime = opened.open_runtime()
                if check_schema:
                    opened.check_schema(lambda: runtime.database.transaction(read_only=True))
            if pipeline is not None:
                with runtime.database.transaction(read_only=True) as connection:
                    pipelines.require_pipeline(connection, pipeline)
            yield runtime
        except psycopg.errors.InsufficientPrivilege as error:
            message, hint = explain(error)
            raise Refused(message, hint=hint) from None

    @contextmanager
    def _searcher(self) -> Iterator[Searcher]:
        """Yield the searcher of this process. Raises Refused for a missing privilege, and for invalid Unicode."""
        from pgvector_sync.observe.search import Searcher

        try:
            with self._lock:
                opened = self._open()
                reading = self._reading_on_pool if self._pool is not None else _reading_of(opened.open_runtime())
                opened.check_schema(reading)
                sampler = opened.open_sampler()
            yield Searcher(self._settings, opened.queries, reading, opened.conditions, sampler)
        except psycopg.errors.InsufficientPrivilege as error:
            raise Refused(explain(error)[0], hint=_GRANT) from None
        except UnicodeEncodeError as error:  # in the query, the condition, a parameter or a column
            raise Refused(
                f"a text of the search can't be sent as {error.encoding}: {error.reason}",
                hint="replace such characters: text.encode('utf-8', 'replace').decode()",
            ) from None

    def _threads(self) -> ThreadPoolExecutor:
        """Return the threads of this process for the asynchronous methods."""
        with self._lock:
            opened = self._open()
            if opened.threads is None:
                opened.threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="pgvector-sync")
            return opened.threads

    def _open(self) -> _Opened:
        """Return what is open in this process. Call it with the lock."""
        if self._closed:
            raise Refused("this Sync is closed", hint="create another one")
        opened = self._opened
        if opened is None or opened.pid != os.getpid():  # after a fork, these are the parent's
            embedders = Embedders(self._settings)
            queries = QueryEmbedder(embedders, self._settings)
            self._opened = opened = _Opened(os.getpid(), self._settings, embedders, queries)
        return opened

    @contextmanager
    def _reading_on_pool(self) -> Iterator[Connection]:
        assert self._pool is not None  # noqa: S101  asked by the caller
        with (
            self._pool.connection() as connection,
            reading_on(connection, lock_timeout=self._settings.lock_timeout) as lent,
        ):
            yield lent


def _reading_of(runtime: Runtime) -> Reading:
    return lambda: runtime.database.transaction(read_only=True)
