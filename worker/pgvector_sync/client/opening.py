"""The connection of a `Sync`: opened by its first call, with one pool per process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psycopg
from pydantic import SecretStr

from pgvector_sync.database import connect
from pgvector_sync.database.explain import explain
from pgvector_sync.errors import Refused
from pgvector_sync.runtime import Runtime
from pgvector_sync.runtime.bootstrap import Embedders, open_database
from pgvector_sync.settings import Settings, load_settings
from pgvector_sync.store import pipelines
from pgvector_sync.store.migrations import check_schema

MAX_CONNECTIONS = 4


@dataclass
class _Opened:
    """The open resources of one process. A forked child opens its own."""

    pid: int
    runtime: Runtime
    embedders: Embedders
    schema_checked: bool = False


class Opening:
    """The part of `Sync` that opens a runtime on first use, and closes it."""

    def __init__(self, database_url: str | None = None, *, settings: Settings | None = None) -> None:
        settings = settings or load_settings()
        if database_url is not None:
            settings = settings.model_copy(update={"database_url": SecretStr(database_url)})
        settings.database()  # raises ConfigError here rather than at the first call
        self._settings = settings
        self._opened: _Opened | None = None
        self._closed = False
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close all connections. Later calls raise Refused."""
        with self._lock:
            self._closed = True
            opened, self._opened = self._opened, None
        if opened is not None and opened.pid == os.getpid():
            opened.runtime.database.close()
            opened.embedders.close()

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
            runtime = self._open(schema_checked=check_schema)
            if pipeline is not None:
                with runtime.database.transaction(read_only=True) as connection:
                    pipelines.require_pipeline(connection, pipeline)
            yield runtime
        except psycopg.errors.InsufficientPrivilege as error:
            message, hint = explain(error)
            raise Refused(message, hint=hint) from None

    def _open(self, *, schema_checked: bool) -> Runtime:
        with self._lock:
            if self._closed:
                raise Refused("this Sync is closed", hint="create another one")
            opened = self._opened
            if opened is None or opened.pid != os.getpid():  # after a fork, these are the parent's
                # fails at once if the database is unreachable; the pool would retry for seconds
                connect(self._settings.database()).close()
                embedders = Embedders(self._settings)
                database = open_database(self._settings, max_connections=MAX_CONNECTIONS)
                opened = _Opened(os.getpid(), Runtime(self._settings, database, embedders), embedders)
                self._opened = opened
            if schema_checked and not opened.schema_checked:
                with opened.runtime.database.transaction(read_only=True) as connection:
                    check_schema(connection)
                opened.schema_checked = True
            return opened.runtime
