"""Decide whether a process can use its database: it can be reached, and the schema is that of this program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import psycopg

from pgvector_sync.database import Database
from pgvector_sync.database.explain import explain
from pgvector_sync.errors import Refused
from pgvector_sync.store.migrations import check_schema, newest

Reason = Literal["database_unavailable", "schema_differs"]


@dataclass(frozen=True, slots=True)
class Readiness:
    """The result of the check. `reason` is None if the database can be used."""

    schema: str | None = None
    """The last applied migration."""
    reason: Reason | None = None
    problem: str | None = None
    """What is wrong, in words. It may name a host or a role."""
    hint: str | None = None

    @property
    def ready(self) -> bool:
        return self.reason is None


def check_readiness(database: Database) -> Readiness:
    """Read the ledger of migrations. Raises nothing of the database."""
    try:
        with database.transaction(read_only=True) as connection:
            check_schema(connection)
            return Readiness(schema=newest(connection))
    except Refused as refused:
        return Readiness(reason="schema_differs", problem=str(refused), hint=refused.hint)
    except psycopg.Error as error:
        problem, hint = explain(error)
        return Readiness(reason="database_unavailable", problem=problem, hint=hint)
