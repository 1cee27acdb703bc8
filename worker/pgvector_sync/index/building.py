"""Carries out the build of an index: creates it under a preliminary name, then lets it replace the old one.

The server process that creates the index holds the build's lock, and goes on if our own process dies. What is left
to do is read from the catalog, so any process can continue after any step (docs/decisions/0090).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import psycopg

from pgvector_sync.database import Connection, Database
from pgvector_sync.database.explain import explain
from pgvector_sync.errors import Refused
from pgvector_sync.index import checks
from pgvector_sync.index.session import Statement, build_session
from pgvector_sync.model import Pipeline
from pgvector_sync.store import build_server, index_build, index_ddl, pipelines
from pgvector_sync.store.build_server import NamedIndex
from pgvector_sync.store.index_build import Build
from pgvector_sync.store.shape import Shape
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.event import Words
from pgvector_sync.telemetry.events.index import (
    IndexBuildFailed,
    IndexBuildInterrupted,
    IndexBuildRetried,
    IndexBuildStarted,
    IndexBuilt,
)

MAX_ATTEMPTS = 3
RETRY_AFTER = timedelta(minutes=5)
TEMPORARY = ("08", "40", "53", "55", "57", "58", "XX")
"""SQLSTATE classes of failures that another attempt may not meet."""
Look = Callable[[Build], object]


def advance(database: Database, build: Build, *, look: Look = lambda _: None) -> bool:
    """Carry out what is left of a build, up to its end. False if a server process holds it already.

    database: connects as a role that may build the index, directly to the server.
    look: called with the build about once per second.

    Raises Refused behind a pooler, and psycopg.OperationalError if the connection is lost: the build goes on in
    the server, and a later call continues from what it finds.
    """
    with build_session(database.conninfo) as session:
        key = secrets.randbits(63)
        if not index_build.take(session, build, key):
            return False
        _Carried(database, session, build.id, key, look).advance()
        index_build.let_go(session, key)
        return True


def shared_memory_is_short(error: psycopg.Error) -> bool:
    """Whether a parallel build found too little shared memory: /dev/shm is full, which Docker limits to 64 MB.

    A full disk has the same SQLSTATE, so the server's source file tells them apart: unlike the message, it isn't
    translated.
    """
    return error.sqlstate in ("53100", "53200") and error.diag.source_file == "dsm_impl.c"


def _is_temporary(error: psycopg.Error) -> bool:
    return (error.sqlstate or "08")[:2] in TEMPORARY


def explain_final(error: psycopg.Error) -> str:
    """Explain an error that another attempt would meet as well. Postgres's own message says which parameter is
    wrong, but that of a value that doesn't fit may quote it.
    """
    if error.sqlstate == "22003":
        return 'a vector has a value beyond the range of halfvec (22003): declare storage = "vector" or "bit"'
    if (error.sqlstate or "").startswith("22") and error.sqlstate != "22023":
        return f"a vector can't be indexed ({error.sqlstate})"
    return f"{error.diag.message_primary or 'the server rejected the statement'} ({error.sqlstate})"


@dataclass
class _Carried:
    """A build that this session has taken."""

    database: Database
    session: Connection
    id: int
    key: int
    look: Look

    def advance(self) -> None:
        build = self._build()
        if not build.unfinished:
            self._clean(build)
            return
        if build.state == "building":  # its server process has ended
            index = build_server.index_of(self.session, build.target, build.preliminary)
            if index is not None and index.valid:
                self._complete(index)
            else:
                self._start_again(
                    build, "the server process that was building it ended early: the server's log says why"
                )
            build = self._build()
        while build.state == "waiting" and build.due:
            try:
                self._attempt(build)
            except psycopg.Error as error:
                if self.session.closed or _is_temporary(error):
                    raise
                self._fail(build, explain_final(error))
            build = self._build()
        if build.state == "swapping":
            self._swap(build)

    def _build(self) -> Build:
        build = index_build.find(self.session, self.id)
        if build is None:
            raise Refused(f"build {self.id} is gone: its pipeline was removed")
        return build

    def _attempt(self, build: Build) -> None:
        with self.database.transaction(read_only=True) as connection:
            pipeline = pipelines.require_pipeline(connection, build.pipeline)
            checked = checks.check(connection, self.database.vector_schema, pipeline, build)
        flight = checked.flight
        if flight.refusal is not None:
            self._fail(build, f"{flight.refusal.reason}; {flight.refusal.hint}")
            return
        if checked.rights is not None:
            raise Refused(checked.rights.reason, hint=checked.rights.hint)
        if build_server.free_name(self.session, build.target, build.preliminary) != build.preliminary:
            self._fail(
                build, f"there is {build.preliminary} already: rename or drop it, then request the index again"
            )
            return
        build_server.afford(self.session, memory_bytes=flight.memory_bytes, workers=flight.workers)
        started = index_build.start(
            self.session,
            self.id,
            self.key,
            index_name=checked.index_name,
            replaces=checked.replaces,
            used_memory=flight.memory_bytes,
            workers=flight.workers,
            pgvector=checked.pgvector,
        )
        if started:
            emit(IndexBuildStarted(pipeline=build.pipeline, build=self.id, attempt=build.attempts + 1))
            self._create(pipeline, build, flight.lists)

    def _create(self, pipeline: Pipeline, build: Build, lists: int) -> None:
        shape = Shape(pipeline, self.database.vector_schema)
        statement = Statement(self.session, index_ddl.create(shape, build.plan, build.preliminary, lists=lists))
        statement.watch(self._note)
        error = statement.error
        if error is not None and not isinstance(error, psycopg.Error):
            raise error
        if error is not None and self.session.closed:
            emit(IndexBuildInterrupted(pipeline=build.pipeline, build=self.id, sqlstate=error.sqlstate))
            raise error
        if index_build.find(self.session, self.id) is None:
            self._drop(build.preliminary, build)
        build = self._build()
        if build.state != "building":
            self._clean(build)
        elif error is not None:
            self._failed(build, error)
        elif index := build_server.index_of(self.session, build.target, build.preliminary):
            self._complete(index)

    def _note(self) -> bool:
        """Note the progress. False if the build was cancelled; True if that isn't known at the moment."""
        try:
            with self.database.transaction() as connection:
                build = index_build.find(connection, self.id)
                going_on = build is not None and index_build.note(connection, build)
        except psycopg.OperationalError:
            return True
        if build is not None:
            self.look(build)
        return going_on

    def _failed(self, build: Build, error: psycopg.Error) -> None:
        if shared_memory_is_short(error) and build.workers != 0:
            reason = (
                "a parallel build needs more shared memory than /dev/shm has (Docker: --shm-size): repeated "
                "without parallel workers"
            )
            self._drop(build.preliminary, build)
            index_build.retry(self.session, self.id, self.key, reason, delay=timedelta(0), workers=0)
            emit(IndexBuildRetried(pipeline=build.pipeline, build=self.id, reason=Words(reason)))
            return
        if isinstance(error, psycopg.errors.DuplicateTable):  # so nothing was created, and what exists isn't ours
            self._fail(build, explain_final(error))
        elif _is_temporary(error):
            self._start_again(build, "; ".join(explain(error)))
        else:
            self._drop(build.preliminary, build)
            self._fail(build, explain_final(error))

    def _start_again(self, build: Build, reason: str) -> None:
        self._drop(build.preliminary, build)
        if build.attempts >= MAX_ATTEMPTS:
            self._fail(build, f"{reason} ({build.attempts} attempts)")
        elif index_build.retry(self.session, self.id, self.key, reason, delay=RETRY_AFTER):
            emit(IndexBuildRetried(pipeline=build.pipeline, build=self.id, reason=Words(reason)))

    def _fail(self, build: Build, reason: str) -> None:
        if index_build.fail(self.session, self.id, self.key, reason):
            emit(IndexBuildFailed(pipeline=build.pipeline, build=self.id, reason=Words(reason)))

    def _complete(self, index: NamedIndex) -> None:
        if not index_build.complete(self.session, self.id, self.key, index.oid):
            self._clean(self._build())

    def _swap(self, build: Build) -> None:
        """Drop what the index replaces, then give it its name. Each step is skipped if it was done before.

        Another index may have taken the name of the one to replace meanwhile: it stays.
        """
        assert build.index_name is not None  # noqa: S101  set by `start`
        new = build_server.index_of(self.session, build.target, build.preliminary)
        final = build.index_name
        if new is not None and not new.valid:
            self._drop(build.preliminary, build)
            self._fail(build, "the index is no longer valid")
            return
        if new is not None:
            if build.replaces is not None and self._may_be_replaced(build, build.replaces):
                self._drop(build.replaces, build)
            final = build_server.free_name(self.session, build.target, final)
            self.session.execute(index_ddl.rename(build.schema, build.preliminary, final), {})
        elif build_server.index_of(self.session, build.target, final) is None:
            self._fail(build, "the index was dropped before it had its name")
            return
        if index_build.finish(self.session, self.id, self.key, final):
            emit(IndexBuilt(pipeline=build.pipeline, build=self.id, index=final))

    def _may_be_replaced(self, build: Build, name: str) -> bool:
        with self.database.transaction(read_only=True) as connection:
            pipeline = pipelines.require_pipeline(connection, build.pipeline)
            shape = Shape(pipeline, self.database.vector_schema)
            return checks.may_be_replaced(connection, shape, build.plan, name)

    def _clean(self, build: Build) -> None:
        """Drop what a cancelled build has left."""
        if not build.left_over:
            return
        self._drop(build.preliminary, build)
        index_build.cleaned(self.session, self.id, self.key)

    def _drop(self, name: str, build: Build) -> None:
        """Drop a vector index of the target, if there is one of this name."""
        if build_server.index_of(self.session, build.target, name) is not None:
            Statement(self.session, index_ddl.drop(build.schema, name)).wait()
