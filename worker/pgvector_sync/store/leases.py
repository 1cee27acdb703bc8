"""Leases: who holds rows of work or a run, and for how long."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import statement


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that is about to be taken."""

    id: UUID
    holder: str
    """The process, see `runtime.keeper.holder`."""
    expires_after: timedelta
    ends_after: timedelta

    @property
    def params(self) -> dict[str, object]:
        return {
            "lease": self.id,
            "holder": self.holder,
            "expires_after": self.expires_after,
            "ends_after": self.ends_after,
        }


def renew(connection: Connection, ids: Collection[UUID], *, expires_after: timedelta) -> set[UUID]:
    """Returns those that are renewed; the others are lost, or have ended."""
    params = {"leases": list(ids), "expires_after": expires_after}
    return {row["id"] for row in connection.execute(statement("leases.renew"), params)}


def silent(connection: Connection, *, grace: timedelta) -> bool:
    """Whether `expire` has something to do; read-only."""
    return bool(one(connection, statement("leases.silent"), {"grace": grace})["silent"])


def expire(connection: Connection, *, grace: timedelta) -> int:
    """Suspects leases that weren't renewed; returns how many are lost by now, and forgets those without rows."""
    lost = sum(row["lost"] for row in connection.execute(statement("leases.expire"), {"grace": grace}))
    connection.execute(statement("leases.forget"))
    return int(lost)


def lose(connection: Connection, holder: str) -> int:
    """Of a process that is known to be dead."""
    return connection.execute(statement("leases.lose"), {"holder": holder}).rowcount


def end(connection: Connection, pipeline_id: int, lease: UUID) -> None:
    """After the last row is acknowledged or released; no-op while one isn't."""
    connection.execute(statement("leases.end"), {"lease": lease, "pipeline_id": pipeline_id})


@dataclass(frozen=True, slots=True)
class Held:
    """Rows of work that name a lease."""

    in_flight: int
    abandoned: int


def held(connection: Connection, *, abandoned_after: timedelta) -> Held:
    """`abandoned` are those whose lease ended longer ago than that."""
    return Held(**one(connection, statement("leases.held"), {"abandoned_after": abandoned_after}))
