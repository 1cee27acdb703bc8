"""Leases: which process holds rows of work or a run, and for how long."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from psycopg import sql

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import composed_once, statement
from pgvector_sync.store import totals


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that is about to be taken."""

    id: UUID
    holder: str
    """The process that takes it, see `runtime.keeper.holder`."""
    expires_after: timedelta
    """When it is suspected, unless it is renewed."""
    ends_after: timedelta
    """When it ends, even if it is renewed."""

    @property
    def params(self) -> dict[str, object]:
        return {
            "lease": self.id,
            "holder": self.holder,
            "expires_after": self.expires_after,
            "ends_after": self.ends_after,
        }


def renew(connection: Connection, ids: Collection[UUID], *, expires_after: timedelta) -> set[UUID]:
    """Renews leases; returns those that were renewed. The others are lost, or have ended."""
    params = {"leases": list(ids), "expires_after": expires_after}
    return {row["id"] for row in connection.execute(statement("leases.renew"), params)}


def expire(connection: Connection, *, grace: timedelta) -> int:
    """Suspects leases that weren't renewed, loses those suspected for `grace`, and deletes lost ones without rows.

    Returns how many were lost.
    """
    lost = sum(row["lost"] for row in connection.execute(statement("leases.expire"), {"grace": grace}))
    connection.execute(_forget())
    return int(lost)


def lose(connection: Connection, holder: str) -> int:
    """Loses the leases of a process that is known to be dead; returns how many."""
    return connection.execute(statement("leases.lose"), {"holder": holder}).rowcount


def end(connection: Connection, pipeline_id: int, lease: UUID) -> None:
    """Deletes a lease after its last row was acknowledged or released, and adds what it has counted to the totals.

    Does nothing before.
    """
    connection.execute(_end(), {"lease": lease, "pipeline_id": pipeline_id}, prepare=True)


@composed_once
def _end() -> sql.Composed:
    return statement("leases.end").format(add_to_totals=totals.adding_ended())


@composed_once
def _forget() -> sql.Composed:
    return statement("leases.forget").format(add_to_totals=totals.adding_ended())


@dataclass(frozen=True, slots=True)
class Held:
    """The number of rows of work with a lease."""

    in_flight: int
    """Rows whose lease is valid."""
    abandoned: int
    """Rows whose lease ended long ago."""


def held(connection: Connection, *, abandoned_after: timedelta) -> Held:
    """Counts rows with a lease. `abandoned_after`: how long after its end a lease counts as abandoned."""
    return Held(**one(connection, statement("leases.held"), {"abandoned_after": abandoned_after}))
