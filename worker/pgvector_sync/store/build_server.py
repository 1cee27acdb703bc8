"""The server and the session in which an index is built: its settings and rights, and the names that are taken."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from psycopg import sql

from pgvector_sync.database import Connection
from pgvector_sync.database.statements import statement
from pgvector_sync.model import Pipeline

LONGEST_NAME = 63
"""Bytes. Postgres cuts a longer name."""
Target = tuple[str, str]
"""Schema and name of a target, as they are in the catalog."""


@dataclass(frozen=True, slots=True)
class NamedIndex:
    """A vector index of a target."""

    oid: int
    valid: bool


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What decides how an index can be built: settings of the session, and rights of its role."""

    oid: int
    role: str
    owner: str
    owned: bool
    may_create: bool
    standby: bool
    memory_bytes: int
    """maintenance_work_mem."""
    shared_buffers_bytes: int
    workers: int
    """max_parallel_maintenance_workers."""
    shared_memory: str
    """dynamic_shared_memory_type."""


@dataclass(frozen=True, slots=True)
class LongTransaction:
    """A transaction for whose end a build has to wait."""

    pid: int
    role: str | None
    application: str
    state: str | None
    age_seconds: float


def target_of(pipeline: Pipeline) -> Target:
    """Returns the target of a pipeline."""
    return pipeline.target_schema, pipeline.target_table


def _quoted(target: Target) -> str:
    return sql.Identifier(*target).as_string()


def index_of(connection: Connection, target: Target, name: str) -> NamedIndex | None:
    """Returns a vector index of a target by its name; None if there is none."""
    params = {"target": _quoted(target), "name": name}
    row = connection.execute(statement("build_server.index_of"), params).fetchone()
    return None if row is None else NamedIndex(**row)


def free_name(connection: Connection, target: Target, wanted: str) -> str:
    """Returns a name that no relation in the target's schema has: `wanted`, or with a number."""
    rows = connection.execute(statement("build_server.relations"), {"target": _quoted(target)})
    taken = {row["name"] for row in rows}
    candidates = (wanted, *(_shortened(wanted, f"_{number}") for number in range(2, len(taken) + 3)))
    return next(name for name in candidates if name not in taken)


def _shortened(name: str, end: str) -> str:
    return name.encode()[: LONGEST_NAME - len(end)].decode(errors="ignore") + end


def circumstances(connection: Connection, target: Target) -> Circumstances | None:
    """Returns what decides how an index of a target can be built; None if the target is missing."""
    row = connection.execute(statement("build_server.server"), {"target": _quoted(target)}).fetchone()
    return None if row is None else Circumstances(**row)


def long_transactions(connection: Connection, *, long: timedelta) -> list[LongTransaction]:
    """Returns the transactions that are older than `long`, the oldest first."""
    rows = connection.execute(statement("build_server.long_transactions"), {"long": long})
    return [LongTransaction(**row) for row in rows]


def settle(connection: Connection, *, idle: timedelta) -> None:
    """Applies the settings of a session that builds. It ends after having been idle for so long."""
    connection.execute(statement("build_server.settle"), {"idle": f"{int(idle.total_seconds() * 1000)}ms"})


def afford(connection: Connection, *, memory_bytes: int, workers: int | None) -> None:
    """Sets maintenance_work_mem and the number of parallel workers for the rest of the session."""
    params = {"kilobytes": f"{memory_bytes // 1024}kB", "parallel_workers": workers}
    connection.execute(statement("build_server.afford"), params)
