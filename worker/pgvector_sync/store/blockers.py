"""Sessions whose locks block DDL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from pgvector_sync.database import Connection
from pgvector_sync.database.statements import statement


@dataclass(frozen=True, slots=True)
class Holder:
    """A session, autovacuum worker or prepared transaction whose lock on a table is in the way."""

    pid: int | None
    """None for a prepared transaction."""
    gid: str | None
    schema: str
    table: str
    mode: str
    application: str
    role: str | None
    state: str | None
    age_seconds: float | None
    autovacuum: bool
    wraparound: bool

    @property
    def words(self) -> str:
        """A description for users. It contains nothing of a query, which may quote rows."""
        if self.pid is None:
            holder = f"the prepared transaction {self.gid}"
        elif self.autovacuum:
            holder = f"autovacuum (pid {self.pid}" + (", to prevent wraparound)" if self.wraparound else ")")
        else:
            details = [f"pid {self.pid}", self.application, self.role and f"role {self.role}", self.state]
            holder = ", ".join(str(detail) for detail in details if detail)
        age = "" if self.age_seconds is None else f" for {self.age_seconds:,.0f} s"
        return f"{holder}{age} with {self.mode} on {self.schema}.{self.table}"

    @property
    def way_out(self) -> str:
        """How the lock can be released."""
        if self.pid is None:
            gid = sql.Literal(self.gid).as_string().strip()  # chosen by its owner, so it is quoted
            return f"COMMIT PREPARED {gid} or ROLLBACK PREPARED {gid}"
        if self.autovacuum:
            return (
                f"wait until autovacuum is done with {self.schema}.{self.table} (pg_stat_progress_vacuum shows "
                "how far it is): it doesn't yield where it prevents wraparound"
            )
        return f"let the transaction of pid {self.pid} end, or SELECT pg_terminate_backend({self.pid});"


def holders(connection: Connection, relations: Sequence[tuple[str, str]], *, exclusive: bool) -> list[Holder]:
    """Returns the holders of locks that block a CREATE TRIGGER on these tables or their partitions.

    relations: (schema, table) pairs.
    exclusive: also return holders of weaker locks, which block DDL that conflicts with readers.
    """
    params = {
        "schemas": [schema for schema, _ in relations],
        "tables": [table for _, table in relations],
        "exclusive": exclusive,
    }
    return [Holder(**row) for row in connection.execute(statement("blockers.holders"), params)]
