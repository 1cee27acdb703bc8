"""Requests and cancels builds, and says which are due."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta

import psycopg

from pgvector_sync.database import Connection, Database
from pgvector_sync.errors import Refused, SyncError
from pgvector_sync.index.building import advance
from pgvector_sync.index.checks import Asked, Checked, check, same_kind
from pgvector_sync.index.preflight import parameters
from pgvector_sync.model import IndexPlan, Method, Pipeline, State, in_window
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.model.schedule import Window
from pgvector_sync.store import build_server, index_build, pipelines
from pgvector_sync.store.index_build import Build, Declared
from pgvector_sync.store.shape import Shape

END_WITHIN = timedelta(seconds=20)
LOOK_EVERY = timedelta(milliseconds=200)


@dataclass(frozen=True, slots=True)
class RequestedBuild:
    """The answer to a request for a build."""

    pipeline: str
    build: int
    joined: bool
    """Whether `build` is an identical build that was requested earlier."""
    index: str
    """The name that the index will have."""
    predicted_bytes: int
    memory_bytes: int
    """The maintenance_work_mem of the build."""
    remarks: tuple[str, ...]


def request_build(
    database: Database,
    name: str,
    *,
    window: Window = None,
    rebuild: bool = False,
    memory_bytes: int | None = None,
) -> RequestedBuild:
    """Request the build of a pipeline's index: the declared one, or HNSW with the default parameters.

    window: begin and end of the daily window (UTC) in which it may begin; None: the declared one.
    Raises Refused if it can't be built, or another build of the pipeline is unfinished.
    """
    vector_schema = database.vector_schema
    with database.transaction(durable=True) as connection:
        pipeline = pipelines.require_pipeline(connection, name)
        if pipeline.state is State.REMOVING:
            raise Refused(f"{name} is being removed", hint=f"finish with: pgvector-sync remove {name}")
        plan = wanted(pipeline, window)
        checked = check(connection, vector_schema, pipeline, Asked(plan, rebuild, memory_bytes))
        if checked.flight.refusal is not None:
            raise Refused(checked.flight.refusal.reason, hint=checked.flight.refusal.hint)
        build_id = index_build.request(
            connection, pipeline, plan, replace=rebuild, declared=False, memory_bytes=memory_bytes
        )
        joined = build_id is None
        if build_id is None:
            others = index_build.list_builds(connection, pipeline=name, unfinished=True, limit=1)
            if not others:
                raise Refused(f"another build of {name} has ended at this moment", hint="request it again")
            other = others[0]
            if (
                index_build.definition(other.plan) != index_build.definition(plan)
                or other.replaces_same != rebuild
            ):
                raise Refused(
                    f"another index of {name} is being built: build {other.id} is {other.state}",
                    hint=f"wait for it, or cancel it: pgvector-sync index cancel {name}",
                )
            if differs := _differs(other, window, memory_bytes):
                raise Refused(
                    f"build {other.id} of {name} was requested before, with {differs}",
                    hint=f"cancel it, then request it again: pgvector-sync index cancel {name}",
                )
            build_id = other.id
    return RequestedBuild(
        pipeline=name,
        build=build_id,
        joined=joined,
        index=checked.index_name,
        predicted_bytes=checked.flight.predicted_bytes,
        memory_bytes=checked.flight.memory_bytes,
        remarks=(*_who_builds(checked), *checked.flight.remarks),
    )


def _differs(other: Build, window: Window, memory_bytes: int | None) -> str | None:
    """Return which explicit option a request would lose if it joined another one."""
    if window is not None and window != other.plan.window:
        return "another window" if other.plan.window else "no window"
    if memory_bytes is not None and memory_bytes != other.memory_bytes:
        return "another size of memory"
    return None


def _who_builds(checked: Checked) -> Iterator[str]:
    if checked.rights is not None:
        yield f"another process has to build it: {checked.rights.reason}; {checked.rights.hint}"


def wanted(pipeline: Pipeline, window: Window = None) -> IndexPlan:
    """Return the index to build: as declared, or HNSW if none is declared."""
    plan = pipeline.options.index
    return replace(plan, method=plan.method or Method.HNSW, window=window or plan.window)


def cancel_build(database: Database, name: str) -> int:
    """Cancel the unfinished build of a pipeline; return its id. Its server process is told to stop.

    Raises Refused if there is none, or if its index is complete already.
    """
    with database.transaction(read_only=True) as connection:
        pipelines.require_pipeline(connection, name)
    build_id = database.retry_on_lock_conflict(lambda connection: index_build.cancel(connection, name))
    if build_id is None:
        raise Refused(
            f"no index of {name} is being built, or it is complete already",
            hint=f"show its builds: pgvector-sync index builds {name}",
        )
    _stop(database, build_id)
    return build_id


def _stop(database: Database, build_id: int) -> None:
    """Tell the server process of a cancelled build to stop. Without the right to do so, the build ends when its
    own process notices, or its index is dropped once it is complete.
    """
    with suppress(psycopg.errors.InsufficientPrivilege), database.transaction() as connection:
        index_build.stop(connection, build_id)


def end_builds(database: Database, name: str) -> None:
    """Cancel and clean up what is unfinished, for a pipeline that is being removed. Gives up after END_WITHIN."""
    build_id = database.retry_on_lock_conflict(lambda connection: index_build.cancel(connection, name))
    if build_id is not None:
        _stop(database, build_id)
    deadline = Deadline.after(END_WITHIN)
    while not deadline.passed:
        with database.transaction(read_only=True) as connection:
            builds = index_build.list_builds(connection, pipeline=name, unfinished=True)
        if not builds:
            return
        for build in builds:
            if not build.held:
                advance(database, build)
        time.sleep(LOOK_EVERY.total_seconds())


def why_it_waits(build: Build) -> str | None:
    """Return why a build doesn't start yet; None if it can be carried out now."""
    if build.state != "waiting":
        return None
    if build.backfilling:
        return "the backfill isn't complete: building later is faster"
    if build.plan.window is not None and not in_window(build.plan.window, build.now):
        begin, end = (f"{at:%H:%M}" for at in build.plan.window)
        return f"it begins between {begin} and {end} UTC"
    if not build.due:
        return build.reason or "its last attempt has failed: the next one follows within minutes"
    return None


def request_declared(database: Database) -> tuple[list[tuple[str, int]], list[Exception]]:
    """Request the indexes that the file declares and the targets don't have.

    Returns pipeline and build of each, and what kept pipelines from being looked at. A build that has failed or
    was cancelled isn't requested again before the declaration changes. An index that we didn't build is never
    replaced.
    """
    requested: list[tuple[str, int]] = []
    failures: list[Exception] = []
    with database.transaction() as connection:
        for declared in index_build.declared(connection):
            try:
                with connection.transaction():
                    build = _request(connection, database.vector_schema, declared)
            except (SyncError, psycopg.Error) as error:
                if connection.closed:
                    raise
                failures.append(error)
                continue
            if build is not None:
                requested.append((declared.pipeline, build))
    return requested, failures


def _request(connection: Connection, vector_schema: str, declared: Declared) -> int | None:
    pipeline = pipelines.require_pipeline(connection, declared.pipeline)
    plan = pipeline.options.index
    given_up = declared.state in ("failed", "cancelled")
    if given_up and declared.definition == index_build.definition(plan):
        return None
    replaces = _lacks(connection, Shape(pipeline, vector_schema), plan)
    if replaces is None:
        return None
    checked = check(connection, vector_schema, pipeline, Asked(plan, replaces))
    if checked.flight.refusal is not None and checked.flight.refusal.temporary:
        return None
    return index_build.request(connection, pipeline, plan, replace=replaces, declared=True)


def _lacks(connection: Connection, shape: Shape, plan: IndexPlan) -> bool | None:
    """Return whether the declared index would replace one of ours; None if the target has it, or isn't there."""
    around = build_server.circumstances(connection, build_server.target_of(shape.pipeline))
    if around is None:
        return None
    same = same_kind(connection, shape, plan, around.oid)
    if same is None:
        return False
    return True if same.ours and not same.has(parameters(plan, plan.lists)) else None


def unfinished(database: Database) -> list[Build]:
    """Return the builds that have something left to do, the oldest first."""
    with database.transaction(read_only=True) as connection:
        return index_build.list_builds(connection, unfinished=True)[::-1]
