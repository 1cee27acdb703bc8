"""Builds of vector indexes: requests, the server process that holds each, and every change of their state."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import part, statement
from pgvector_sync.model import IndexPlan, Pipeline
from pgvector_sync.store.build_server import Target

PREFIX = "pgvector_sync_build_"
"""The beginning of an index's name until it is complete."""
UNFINISHED = ("waiting", "building", "swapping")
DEFINING = ("method", "storage", "m", "ef_construction", "lists")
"""The options of the section `index` that define an index. Changing another one requires no build."""


@dataclass(frozen=True, slots=True)
class Build:
    """A build of an index: its request, its progress and its result."""

    id: int
    pipeline: str
    state: str
    """`waiting`, `building`, `swapping`, `done`, `failed` or `cancelled`."""
    reason: str | None
    """Why it waits, has failed or was cancelled."""
    plan: IndexPlan
    replaces_same: bool
    """Whether it replaces an index of the same kind."""
    declared: bool
    """Whether the file has requested it."""
    memory_bytes: int | None
    """What was asked for."""
    workers: int | None
    """Parallel workers; None: as the server and the preflight decide."""
    requested_by: str
    requested_at: datetime
    attempts: int
    lock_key: int | None
    index_name: str | None
    replaces: str | None
    left_over: bool
    schema: str
    table: str
    due: bool
    now: datetime
    """The database's time."""
    started_at: datetime | None
    ended_at: datetime | None
    rows: int | None
    bytes: int | None
    parameters: tuple[str, ...]
    pgvector: str | None
    used_memory: int | None
    changes: int | None
    """Vectors that the pipeline had stored and removed when the last attempt started."""
    phase: str | None
    phase_since: datetime | None
    done_share: float | None
    """Of the phase."""
    waits_for: int | None
    """The pid of a session whose transaction has to end first."""
    held: bool
    """Whether a server process is carrying it out."""
    backfilling: bool
    may_build: bool
    """Whether the current role may create and drop indexes of the target."""

    @property
    def unfinished(self) -> bool:
        return self.state in UNFINISHED

    @property
    def preliminary(self) -> str:
        """The name of the index until it is complete."""
        return f"{PREFIX}{self.id}"

    @property
    def target(self) -> Target:
        return self.schema, self.table

    @property
    def time_left(self) -> timedelta | None:
        """Extrapolated from the phase's share that is done; None if too little is."""
        if self.phase_since is None or self.done_share is None or not 0.01 <= self.done_share <= 1:
            return None
        return (self.now - self.phase_since) * ((1 - self.done_share) / self.done_share)


@dataclass(frozen=True, slots=True)
class Declared:
    """A pipeline whose file declares an index, and the last build that the file has requested."""

    pipeline: str
    state: str | None
    """None: there was no build."""
    definition: dict[str, Any] | None


@cache
def _target_oid() -> sql.SQL:
    return part("index_build.target_oid")


@cache
def _holder() -> sql.Composed:
    return part("index_build.holder").format(target_oid=_target_oid())


def definition(plan: IndexPlan) -> dict[str, Any]:
    """Returns the options that define the index, as they are stored."""
    return {name: value for name, value in plan.written().items() if name in DEFINING}


def request(
    connection: Connection,
    pipeline: Pipeline,
    plan: IndexPlan,
    *,
    replace: bool,
    declared: bool,
    memory_bytes: int | None = None,
) -> int | None:
    """Requests a build; returns its id, or None while another build of the pipeline is unfinished."""
    row = connection.execute(
        statement("index_build.request"),
        {
            "pipeline_id": pipeline.id,
            "definition": Jsonb(definition(plan)),
            "window_begin": None if plan.window is None else plan.window[0],
            "window_end": None if plan.window is None else plan.window[1],
            "replace": replace,
            "declared": declared,
            "memory_bytes": memory_bytes,
        },
    ).fetchone()
    return None if row is None else int(row["id"])


def list_builds(
    connection: Connection,
    *,
    build_id: int | None = None,
    pipeline: str | None = None,
    unfinished: bool = False,
    limit: int = 100,
) -> list[Build]:
    """Returns builds, newest first."""
    query = statement("index_build.list").format(target_oid=_target_oid(), holder=_holder())
    params = {"id": build_id, "pipeline": pipeline, "unfinished": unfinished, "limit": limit}
    return [_build(row) for row in connection.execute(query, params)]


def readable(connection: Connection) -> bool:
    """Returns whether the current role may read builds."""
    return bool(one(connection, statement("index_build.readable"))["readable"])


def find(connection: Connection, build_id: int) -> Build | None:
    """Returns a build; None if it doesn't exist."""
    return next(iter(list_builds(connection, build_id=build_id)), None)


def _build(row: dict[str, Any]) -> Build:
    begin, end = row.pop("window_begin"), row.pop("window_end")
    plan = replace(IndexPlan.read(row.pop("definition")), window=None if begin is None else (begin, end))
    return Build(**row | {"plan": plan, "parameters": tuple(row["parameters"] or ())})


def take(connection: Connection, build: Build, lock_key: int) -> bool:
    """Makes this session carry out a build that no server process holds; returns whether it does.

    lock_key: a new random number. The session holds its advisory lock until it ends.
    """
    one(connection, statement("index_build.hold"), {"lock_key": lock_key})
    params = {"id": build.id, "lock_key": lock_key, "known_key": build.lock_key}
    if connection.execute(statement("index_build.take").format(holder=_holder()), params).rowcount == 1:
        return True
    let_go(connection, lock_key)
    return False


def let_go(connection: Connection, lock_key: int) -> None:
    """Releases the lock of `take` before the session ends."""
    connection.execute(statement("index_build.let_go"), {"lock_key": lock_key})


def start(
    connection: Connection,
    build_id: int,
    lock_key: int,
    *,
    index_name: str,
    replaces: str | None,
    used_memory: int,
    workers: int | None,
    pgvector: str,
) -> bool:
    """Starts an attempt. False if the build was cancelled, or another session has taken it."""
    params = {
        "id": build_id,
        "lock_key": lock_key,
        "index_name": index_name,
        "replaces": replaces,
        "used_memory": used_memory,
        "parallel_workers": workers,
        "pgvector": pgvector,
    }
    return connection.execute(statement("index_build.start"), params).rowcount == 1


def note(connection: Connection, build: Build) -> bool:
    """Notes the progress that Postgres reports. False if the build was cancelled, or taken by another session."""
    params = {
        "id": build.id,
        "lock_key": build.lock_key,
        "phase": build.phase,
        "done_share": build.done_share,
    }
    return connection.execute(statement("index_build.note"), params).rowcount == 1


def retry(
    connection: Connection,
    build_id: int,
    lock_key: int,
    reason: str,
    *,
    delay: timedelta,
    workers: int | None = None,
) -> bool:
    """Lets a failed attempt be repeated after `delay`. False as for `start`."""
    params = {"id": build_id, "lock_key": lock_key, "reason": reason, "delay": delay, "parallel_workers": workers}
    return connection.execute(statement("index_build.retry"), params).rowcount == 1


def say_why_it_waits(connection: Connection, build_id: int, reason: str) -> None:
    """Stores why a build doesn't start yet."""
    connection.execute(statement("index_build.wait"), {"id": build_id, "reason": reason})


def complete(connection: Connection, build_id: int, lock_key: int, oid: int) -> bool:
    """Notes that the index is valid, with its size. False if it isn't, and as for `start`."""
    params = {"id": build_id, "lock_key": lock_key, "oid": oid}
    return connection.execute(statement("index_build.complete"), params).rowcount == 1


def finish(connection: Connection, build_id: int, lock_key: int, index_name: str) -> bool:
    """Notes that the index has its final name. False as for `start`."""
    params = {"id": build_id, "lock_key": lock_key, "index_name": index_name}
    return connection.execute(statement("index_build.finish"), params).rowcount == 1


def fail(connection: Connection, build_id: int, lock_key: int, reason: str) -> bool:
    """Gives a build up. False as for `start`."""
    params = {"id": build_id, "lock_key": lock_key, "reason": reason}
    return connection.execute(statement("index_build.fail"), params).rowcount == 1


def cancel(connection: Connection, pipeline: str) -> int | None:
    """Cancels the unfinished build of a pipeline; returns its id, or None if there is none, or it is complete."""
    row = connection.execute(statement("index_build.cancel"), {"pipeline": pipeline}).fetchone()
    return None if row is None else int(row["id"])


def stop(connection: Connection, build_id: int) -> bool:
    """Cancels the statement of the server process that holds a build that has ended. False if there is none, or if
    the current role may not.
    """
    query = statement("index_build.stop").format(holder=_holder())
    return bool(one(connection, query, {"id": build_id})["stopped"])


def cleaned(connection: Connection, build_id: int, lock_key: int) -> bool:
    """Notes that nothing of a cancelled build is left. False if another session has taken it."""
    params = {"id": build_id, "lock_key": lock_key}
    return connection.execute(statement("index_build.cleaned"), params).rowcount == 1


def built(connection: Connection, pipeline: Pipeline) -> set[str]:
    """Returns the names of the indexes that were built for a pipeline."""
    rows = connection.execute(statement("index_build.built"), {"pipeline_id": pipeline.id})
    return {row["name"] for row in rows}


def declared(connection: Connection) -> list[Declared]:
    """Returns the pipelines whose file declares an index, and whose backfill and builds have ended."""
    return [Declared(**row) for row in connection.execute(statement("index_build.declared"))]


def forget(connection: Connection, *, older_than: timedelta) -> int:
    """Deletes builds that ended long ago; keeps the last one of each index and request."""
    return connection.execute(statement("index_build.forget"), {"older_than": older_than}).rowcount
