"""Builds of vector indexes under way: a target with vectors, and what holds a build up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from pgvector_sync.database import Database
from pgvector_sync.index.building import advance
from pgvector_sync.index.requests import RequestedBuild, request_build
from pgvector_sync.store import index_build
from pgvector_sync.store.index_build import Build
from support.processes import Process, Processes
from support.synced import DIMENSIONS, Synced
from support.waiting import eventually

ROWS = 300
NAME = "docs_embedding_hnsw"
INDEXES = (
    "SELECT c.relname, x.indisvalid FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid "
    "JOIN pg_am a ON a.oid = c.relam WHERE x.indrelid = 'docs_embedding'::regclass AND a.amname IN ('hnsw', 'ivfflat') "
    "ORDER BY 1"
)
WAITS = "waiting for writers before build"


def fill(docs: Synced, rows: int) -> None:
    """Adds vectors until the target has so many."""
    docs.run(
        "INSERT INTO docs_embedding (id, embedding, fingerprint, model, embedded_at) "
        f"SELECT n, ARRAY(SELECT random() - 0.5 + n * 0 FROM generate_series(1, {DIMENSIONS}))::vector, "
        f"sha256(n::text::bytea), 'm', now() FROM generate_series(1, {rows}) n ON CONFLICT DO NOTHING",
        "ANALYZE docs_embedding",
    )


@contextmanager
def open_transaction(docs: Synced) -> Iterator[psycopg.Connection[Any]]:
    """A transaction of the application, for whose end a build waits."""
    with docs.database.connect() as connection:
        connection.autocommit = False
        connection.execute("LOCK TABLE docs_embedding IN ROW EXCLUSIVE MODE")
        yield connection
        connection.rollback()


def indexes(docs: Synced) -> list[tuple[str, bool]]:
    return docs.database.execute(INDEXES)


def found(database: Database, build: int) -> Build:
    with database.transaction(read_only=True) as connection:
        result = index_build.find(connection, build)
    assert result is not None
    return result


def requested(docs: Synced, **options: Any) -> RequestedBuild:
    return request_build(docs.owner.database, "docs", **options)


def carried_out(docs: Synced, build: int) -> Build:
    """Carries out what is left of a build, as the owner of the target."""
    database = docs.owner.database
    assert advance(database, found(database, build))
    return found(database, build)


@contextmanager
def under_way(server: Database, build: int, ends: type[Exception] = ZeroDivisionError) -> Iterator[None]:
    """Carries out a build in a thread, and waits until the server does. `ends` is the exception that may end it."""

    def carry_out() -> None:
        with suppress(ends):
            advance(server, found(server, build))

    thread = threading.Thread(target=carry_out)
    thread.start()
    try:
        eventually(lambda: found(server, build).phase == WAITS)
        yield
    finally:
        thread.join(20)
    assert not thread.is_alive()


def started(docs: Synced, processes: Processes) -> tuple[Process, int]:
    """Starts `index build --wait`, and returns it with its build when the server has begun."""
    process = processes.command("index", "build", "docs", "--wait", DATABASE_URL=docs.database.url)
    eventually(lambda: WAITS in process.printed, 30)
    return process, docs.database.value("SELECT max(id) FROM pgvector_sync.index_build")


def holder(docs: Synced) -> int:
    """The server process that builds."""
    return int(docs.database.value("SELECT pid FROM pg_stat_progress_create_index"))
