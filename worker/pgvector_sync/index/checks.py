"""Reads what decides whether and how an index can be built, and what it is called."""

from __future__ import annotations

from dataclasses import dataclass

from pgvector_sync.database import Connection
from pgvector_sync.errors import Refused
from pgvector_sync.index.preflight import LONG, Existing, Facts, Preflight, Refusal, preflight
from pgvector_sync.model import IndexPlan, Method, Pipeline
from pgvector_sync.store import build_server, index_build, index_ddl, index_status, server, sizes, trust
from pgvector_sync.store.build_server import Circumstances
from pgvector_sync.store.index_build import Build
from pgvector_sync.store.index_status import VectorIndex
from pgvector_sync.store.shape import Shape

COUNT_LIMIT_ROWS = 200_000
"""The number of rows from which on they are estimated instead of counted."""


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of the checks before a build."""

    flight: Preflight
    rights: Refusal | None
    """Why the current role can't build it."""
    index_name: str
    replaces: str | None
    pgvector: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for, before it is stored."""

    plan: IndexPlan
    replaces_same: bool
    memory_bytes: int | None = None
    workers: int | None = None


def check(connection: Connection, vector_schema: str, pipeline: Pipeline, asked: Build | Asked) -> Checked:
    """Check whether an index can be built.

    Raises Refused if the target or pgvector is missing, and DatabaseRefuses if the target isn't our table: reading
    a view would run its owner's code.
    """
    shape = Shape(pipeline, vector_schema)
    around = build_server.circumstances(connection, build_server.target_of(pipeline))
    extension = server.pgvector(connection)
    if around is None or extension is None:
        missing = "the target doesn't exist" if around is None else "the extension vector is not installed"
        raise Refused(f"{pipeline.name}: {missing}", hint="pgvector-sync doctor")
    trust.require_own_target(connection, pipeline)
    plan, storage = asked.plan, index_ddl.storage_of(shape, asked.plan)
    same = same_kind(connection, shape, plan, around.oid)
    facts = Facts(
        target=pipeline.target_label,
        plan=plan,
        storage=storage,
        dimensions=pipeline.spec.dimensions,
        rows=_rows(connection, shape, around.oid),
        pgvector=extension.files,
        bits=extension.bits,
        memory_bytes=around.memory_bytes,
        shared_buffers_bytes=around.shared_buffers_bytes,
        workers=around.workers,
        shared_memory=around.shared_memory,
        same=same,
        replace=asked.replaces_same,
        asked_memory=asked.memory_bytes,
        asked_workers=asked.workers,
        long=[
            ", ".join(
                filter(
                    None,
                    (
                        f"the transaction of pid {each.pid}, which is {each.age_seconds:,.0f} s old",
                        each.application,
                        each.role and f"role {each.role}",
                        each.state,
                    ),
                )
            )
            for each in build_server.long_transactions(connection, long=LONG)
        ],
    )
    flight = preflight(facts)
    replaces = same.name if same is not None and asked.replaces_same else None
    wanted = replaces or default_name(pipeline, plan)
    name = wanted if replaces else build_server.free_name(connection, build_server.target_of(pipeline), wanted)
    return Checked(flight, _rights(pipeline, around), name, replaces, extension.files)


def default_name(pipeline: Pipeline, plan: IndexPlan) -> str:
    """Return the name of a pipeline's index: that of the target, what it contains, and the method."""
    storage = plan.storage
    parts = [] if storage is None or storage.value == pipeline.options.vector_type.value else [storage.value]
    end = "_".join(("", *parts, (plan.method or Method.HNSW).value))
    table = pipeline.target_table.encode()[: build_server.LONGEST_NAME - len(end)].decode(errors="ignore")
    return table + end


def same_kind(connection: Connection, shape: Shape, plan: IndexPlan, oid: int) -> Existing | None:
    """Return the valid index of the same method, operator class and expression; ours first."""
    ours = index_build.built(connection, shape.pipeline)
    same = [
        Existing(index.name, index.parameters, index.name in ours)
        for index in _same_kind(connection, shape, plan, oid)
        if index.valid and not index.name.startswith(index_build.PREFIX)
    ]
    return min(same, key=lambda index: (not index.ours, index.name), default=None)


def may_be_replaced(connection: Connection, shape: Shape, plan: IndexPlan, name: str) -> bool:
    """Return whether an index of this name is still one of the same kind, if only one that is half dropped."""
    around = build_server.circumstances(connection, build_server.target_of(shape.pipeline))
    if around is None:
        return False
    return any(index.name == name for index in _same_kind(connection, shape, plan, around.oid))


def _same_kind(connection: Connection, shape: Shape, plan: IndexPlan, oid: int) -> list[VectorIndex]:
    """Return the indexes that serve the same searches. Their operator class alone doesn't decide: an index over a
    part of the vectors has the same.
    """
    storage = index_ddl.storage_of(shape, plan)
    operator_class = index_ddl.operator_class(shape.pipeline.options.metric, storage)
    return [
        index
        for index in index_status.vector_indexes(connection, oid)
        if plan.method is not None and index.method == plan.method.value and not index.partial
        and index.storage is storage and index.operator_class == operator_class
    ]  # fmt: skip


def _rows(connection: Connection, shape: Shape, oid: int) -> int:
    counted = sizes.count_up_to(connection, shape.target, limit=COUNT_LIMIT_ROWS + 1)
    return counted if counted <= COUNT_LIMIT_ROWS else max(counted, sizes.estimated_rows(connection, oid))


def _rights(pipeline: Pipeline, around: Circumstances) -> Refusal | None:
    if around.standby:
        return Refusal("the server is a standby", "point DATABASE_URL to the primary")
    if not around.owned:
        return Refusal(
            f"an index of {pipeline.target_label} can only be built by its owner, {around.owner}, and this is "
            f"role {around.role}",
            f"run `pgvector-sync index build {pipeline.name} --wait` as {around.owner}, or set "
            "PGVECTOR_SYNC_BUILD_DATABASE_URL for the process that builds",
        )
    if not around.may_create:
        return Refusal(
            f"role {around.role} may not create an index in the schema {pipeline.target_schema}",
            f"GRANT CREATE ON SCHEMA {pipeline.target_schema} TO {around.role};",
        )
    return None
