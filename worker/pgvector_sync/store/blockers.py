"""Whose locks DDL waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from pgvector_sync.database import Connection
from pgvector_sync.database.statements import statement


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose lock on a table is in the way."""

    pid: int | None
    """None: a prepared transaction."""
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
        """For a person; nothing of a query, which may quote rows."""
        if self.pid is None:
            who = f"the prepared transaction {self.gid}"
        elif self.autovacuum:
            who = f"autovacuum (pid {self.pid}" + (", to prevent wraparound)" if self.wraparound else ")")
        else:
            known = [f"pid {self.pid}", self.application, self.role and f"role {self.role}", self.state]
            who = ", ".join(str(part) for part in known if part)
        age = "" if self.age_seconds is None else f" for {self.age_seconds:,.0f} s"
        return f"{who}{age} with {self.mode} on {self.schema}.{self.table}"

    @property
    def way_out(self) -> str:
        """What a person can do about it."""
        if self.pid is None:
            gid = sql.Literal(self.gid).as_string().strip()  # which its owner has chosen
            return f"COMMIT PREPARED {gid} or ROLLBACK PREPARED {gid}"
        if self.autovacuum:
            return (
                f"wait until autovacuum is done with {self.schema}.{self.table} (pg_stat_progress_vacuum shows "
                "how far it is): it doesn't yield where it prevents wraparound"
            )
        return f"let the transaction of pid {self.pid} end, or SELECT pg_terminate_backend({self.pid});"


def holders(connection: Connection, relations: Sequence[tuple[str, str]], *, exclusive: bool) -> list[Holder]:
    """Who holds locks on these tables, (schema, table), and their partitions that a CREATE TRIGGER waits for;
    `exclusive`: that any other lock conflicts with.
    """
    params = {
        "schemas": [schema for schema, _ in relations],
        "tables": [table for _, table in relations],
        "exclusive": exclusive,
    }
    return [Holder(**row) for row in connection.execute(statement("blockers.holders"), params)]
