"""What `Sync` has open: nothing before its first call, and one pool per process."""

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
from pgvector_sync.store.migrations import check_schema

CONNECTIONS = 4


@dataclass
class _Opened:
    """What a process has open; a fork opens its own."""

    pid: int
    runtime: Runtime
    embedders: Embedders
    checked: bool = False
    """Whether the schema was found to be this program's."""


class Opening:
    """Opens a runtime when it is first needed, and closes it."""

    def __init__(self, database_url: str | None = None, *, settings: Settings | None = None) -> None:
        settings = settings or load_settings()
        if database_url is not None:
            settings = settings.model_copy(update={"database_url": SecretStr(database_url)})
        settings.database()  # raises ConfigError here, and not at the first call
        self._settings = settings
        self._opened: _Opened | None = None
        self._closed = False
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close what is open. Later calls raise Refused."""
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
    def _runtime(self, *, check_schema: bool = True) -> Iterator[Runtime]:
        try:
            yield self._open(checked=check_schema)
        except psycopg.errors.InsufficientPrivilege as error:
            what, advice = explain(error)
            raise Refused(what, hint=advice) from None

    def _open(self, *, checked: bool) -> Runtime:
        with self._lock:
            if self._closed:
                raise Refused("this Sync is closed", hint="make another one")
            opened = self._opened
            if opened is None or opened.pid != os.getpid():  # a parent's is not ours to close
                # before the pool, which would try for seconds
                connect(self._settings.database()).close()
                embedders = Embedders(self._settings)
                database = open_database(self._settings, max_connections=CONNECTIONS)
                opened = _Opened(os.getpid(), Runtime(self._settings, database, embedders), embedders)
                self._opened = opened
            if checked and not opened.checked:
                with opened.runtime.database.transaction(read_only=True) as connection:
                    check_schema(connection)
                opened.checked = True
            return opened.runtime
