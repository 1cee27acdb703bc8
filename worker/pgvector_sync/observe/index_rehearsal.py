"""`index rehearse`: grows a pipeline's vectors in a schema of its own, builds the advised index, and measures it.

The schema is dropped at the end, also after Ctrl-C. If the process is killed, the next rehearsal drops it: a
session holds a lock as long as it rehearses, so a schema whose lock is free was left over.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta

import numpy as np
import psycopg

from pgvector_sync.database import Connection, connect
from pgvector_sync.errors import Refused
from pgvector_sync.index.advice import Choice, advise
from pgvector_sync.index.facts import Goal
from pgvector_sync.index.heap import KeyPart, table_size
from pgvector_sync.index.pages import value_bytes
from pgvector_sync.index.phrases import size
from pgvector_sync.index.preflight import Facts as FlightFacts
from pgvector_sync.index.preflight import Preflight, preflight
from pgvector_sync.index.session import build_session
from pgvector_sync.model import Storage
from pgvector_sync.observe.index_facts import Read, read
from pgvector_sync.observe.rehearsed import QUERIES, OnProgress, Rehearsal, Rehearsed, different
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import (
    build_server,
    grants,
    index_facts,
    pipelines,
    rehearsal,
)
from pgvector_sync.store.shape import Shape
from pgvector_sync.store.trust import require_trusted

DISK = 10 * 1024**3
"""What a rehearsal may take without being asked for more."""
LEAST_VECTORS = 100
BASES = 10_000
"""The most real vectors of which copies are made."""
IDLE = timedelta(minutes=15)
"""The session holds the lock, and idles while recall is measured."""


def rehearse(
    runtime: Runtime,
    name: str,
    rows: int,
    goal: Goal,
    *,
    disk: int | None = None,
    seed: int = 0,
    progress: OnProgress = lambda _what, _done, _total: None,
) -> Rehearsal:
    """Rehearse a number of rows. Raises Refused, and psycopg.Error if the server fails."""
    database = runtime.database
    with database.transaction(read_only=True) as connection:
        pipeline = pipelines.require_pipeline(connection, name)
        grants.require_sole_author(connection)
        require_trusted(connection, pipeline, whole=False)
        shape = Shape(pipeline, database.vector_schema)
        facts = read(connection, shape)
        if facts.facts.vectors < LEAST_VECTORS:
            raise Refused(
                f"{name} has {facts.facts.vectors:,} vectors, which are too few to make others like them",
                hint=f"at least {LEAST_VECTORS} are needed: pgvector-sync status {name}",
            )
        choice = _choice(facts, rows, goal)
        vectors = different(index_facts.sample(connection, shape, rows=facts.facts.vectors, limit=BASES + QUERIES))
        table = _require_disk(shape, rows, choice, disk)
        flight = _flight(connection, shape, facts, choice, rows)
    conninfo = runtime.settings.build_database()
    with build_session(conninfo) as session:
        build_server.settle(session, idle=IDLE)
        _require_possible(rehearsal.begin(session, shape), name)
        rehearsal.drop_left_over(session)
        with _dropped_afterwards(session, conninfo, shape):
            return Rehearsed(
                runtime,
                session,
                shape,
                goal,
                choice,
                flight,
                vectors,
                table,
                np.random.default_rng(seed),
                progress,
            ).run(rows)


def _choice(facts: Read, rows: int, goal: Goal) -> Choice:
    known = facts.facts
    exact = None if known.exact is None else known.exact * (rows / known.vectors)
    wanted = replace(
        known, vectors=rows, source_rows=None, growth_per_day=None, churn_per_day=None, exact=exact, existing=()
    )
    choice = advise(wanted, goal)
    if known.sample.distinct < 2:
        problem = choice.problems[0]
        raise Refused(problem.seen, hint=problem.advice)
    return choice


def _flight(connection: Connection, shape: Shape, read: Read, choice: Choice, rows: int) -> Preflight | None:
    around = build_server.circumstances(connection, build_server.target_of(shape.pipeline))
    if choice.plan.method is None or around is None:
        return None
    facts = FlightFacts(
        target=shape.pipeline.target_label,
        plan=choice.plan,
        storage=choice.storage,
        dimensions=shape.pipeline.spec.dimensions,
        rows=rows,
        pgvector=read.facts.pgvector,
        bits=read.facts.bits,
        memory_bytes=around.memory_bytes,
        shared_buffers_bytes=around.shared_buffers_bytes,
        workers=around.workers,
        shared_memory=around.shared_memory,
        same=None,
        replace=False,
        asked_workers=0 if choice.alone else None,
    )
    flight = preflight(facts)
    if flight.refusal is not None:
        raise Refused(flight.refusal.reason, hint=flight.refusal.hint)
    return flight


def _require_disk(shape: Shape, rows: int, choice: Choice, disk: int | None) -> int:
    """Return the predicted size of the table. Postgres doesn't report how much of the disk is free."""
    pipeline = shape.pipeline
    value = value_bytes(Storage(pipeline.options.vector_type.value), pipeline.spec.dimensions)
    table = table_size(rows, value, key=[KeyPart(8, 8)], model=len(pipeline.spec.model))
    needed = table.heap + table.toast + (choice.bytes or 0)
    allowed = DISK if disk is None else disk
    if needed > allowed:
        wanted = f"{math.ceil(needed * 1.1 / 1024**3)}GB"
        raise Refused(
            f"{rows:,} rows take about {size(needed)} of the server's disk, and {size(allowed)} are allowed",
            hint=f"if so much is free: --disk {wanted}; Postgres doesn't report it",
        )
    return table.heap + table.toast


def _require_possible(begun: rehearsal.Begun, name: str) -> None:
    if begun.standby:
        raise Refused("a rehearsal writes, and this server is a standby", hint="use the primary, or a copy of it")
    if not begun.locked:
        raise Refused(f"{name} is being rehearsed by another process", hint="wait until it has ended")
    if not begun.may_create:
        role, database = (each.replace('"', '""') for each in (begun.role, begun.database))
        raise Refused(
            f"{begun.role} may not create a schema in {begun.database}",
            hint=f'GRANT CREATE ON DATABASE "{database}" TO "{role}"; -- it can be revoked afterwards',
        )


@contextmanager
def _dropped_afterwards(session: Connection, conninfo: str, shape: Shape) -> Iterator[None]:
    """Drop the schema at the end, whatever has happened to the session."""
    try:
        yield
    finally:
        if session.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
            session.cancel_safe(timeout=5)  # an interrupted build
            with suppress(psycopg.Error):
                _await_idle(session)
        try:
            rehearsal.drop(session, shape)
        except psycopg.Error:
            with connect(conninfo) as another:
                rehearsal.drop(another, shape)


def _await_idle(session: Connection) -> None:
    """Wait until a cancelled statement has ended, which takes as long as the server needs to notice."""
    until = time.monotonic() + 30
    while session.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE and time.monotonic() < until:
        time.sleep(0.02)
