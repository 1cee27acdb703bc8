"""Privileges in our schema: what a worker's role needs, lacks, and has beyond that."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import part, statement
from pgvector_sync.errors import Refused
from pgvector_sync.model import Pipeline

SCHEMA = "pgvector_sync"
WRITTEN_BY_TRIGGERS = ("outbox", "sweep", "parked")

_SPELLED = part("grants.spelled").format(needed=part("grants.needed"))
_WORKERS = part("grants.workers")


def _granted(tables: sql.SQL) -> sql.Composed:
    return part("grants.granted").format(tables=tables)


@dataclass(frozen=True, slots=True)
class Grant:
    """The privileges of one role on one table, in the syntax of GRANT and REVOKE."""

    role: str
    """PUBLIC, or the name of a role."""
    schema: str
    table: str
    privileges: tuple[str, ...]
    needed: tuple[str, ...] = ()
    """Privileges on single columns that a worker needs, and that revoking would remove."""

    @property
    def revoke(self) -> str:
        """The statements that revoke what isn't needed."""
        grantee = self.role if self.role == "PUBLIC" else _quoted(self.role)
        table = _quoted(self.schema, self.table)
        revoke = f"REVOKE {', '.join(self.privileges)} ON {table} FROM {grantee};"
        return f"{revoke} GRANT {', '.join(self.needed)} ON {table} TO {grantee};" if self.needed else revoke


@dataclass(frozen=True, slots=True)
class Lacking:
    """Privileges that a worker needs, and the tables on which the current role lacks them."""

    privileges: tuple[str, ...]
    tables: tuple[str, ...]


def lacking(connection: Connection) -> list[Lacking]:
    """Returns the privileges that a worker needs in our schema and the current role lacks."""
    rows = connection.execute(statement("grants.lacking").format(spelled=_SPELLED))
    return [Lacking(tuple(row["privileges"]), tuple(row["tables"])) for row in rows]


def only_reads(connection: Connection) -> bool:
    """Whether the current role may read all our tables and write none, as a monitor does."""
    return bool(one(connection, statement("grants.only_reads").format(spelled=_SPELLED))["only_reads"])


def only_searches(connection: Connection) -> bool:
    """Whether the current role may read the declarations and no other table of ours, as an application does."""
    return bool(one(connection, statement("grants.only_searches"))["only_searches"])


def excess(connection: Connection) -> list[Grant]:
    """Returns privileges beyond what a worker needs, of other roles than the owner, in our schema and targets."""
    query = statement("grants.excess").format(
        granted=_granted(part("grants.ours_and_targets")), spelled=_SPELLED, workers=_WORKERS
    )
    return [
        Grant(row["role"], row["schema"], row["name"], tuple(row["privileges"]), tuple(row["needed"]))
        for row in connection.execute(query)
    ]


def require_sole_author(connection: Connection) -> None:
    """Raises Refused if a role with fewer rights than the current one may write what the current one would run.

    The texts, conditions and addresses in `pipeline`, `source` and `provider` run with the rights of the role that
    embeds, searches or counts. What a role with fewer rights has written must not run as the owner.
    """
    query = statement("grants.writers").format(granted=_granted(part("grants.declarations")), spelled=_SPELLED)
    roles = [row["role"] for row in connection.execute(query)]
    if roles:
        raise Refused(
            f"{', '.join(roles)} may change what this role would run as the owner of {SCHEMA}",
            hint="`pgvector-sync doctor` shows what to revoke (excess_grants)",
        )


def repeat(connection: Connection) -> None:
    """Grants workers what they need on new tables, and SELECT to roles that read ours. For `migrate`."""
    _grant(connection, statement("grants.repeat").format(spelled=_SPELLED, workers=_WORKERS))


def grant_target(connection: Connection, target: tuple[str, str]) -> None:
    """Grants workers what they need on a target that was created in this transaction."""
    query = statement("grants.on_target").format(workers=_WORKERS)
    _grant(connection, query, target=sql.Identifier(*target).as_string())


def closed_to_workers(connection: Connection, oid: int) -> list[str]:
    """Returns the workers' roles that may read no column of a source."""
    query = statement("grants.closed_to_workers").format(workers=_WORKERS)
    return [row["role"] for row in connection.execute(query, {"oid": oid})]


@dataclass(frozen=True, slots=True)
class Role:
    """The current role."""

    role: str
    superuser: bool
    bypasses: bool
    """Whether row-level security doesn't apply to it."""
    embedded: bool
    """Whether this is an embedded server, which has only one role."""
    attributes: tuple[str, ...]
    """Those of CREATEROLE, CREATEDB and REPLICATION that it has."""
    memberships: tuple[str, ...]
    """Predefined roles that it belongs to and that give rights on all data, or on the server's files."""


def current_role(connection: Connection, *, embedded_cluster: str) -> Role:
    row = one(connection, statement("grants.role"), {"cluster": embedded_cluster})
    return Role(**{**row, "attributes": tuple(row["attributes"]), "memberships": tuple(row["memberships"])})


@dataclass(frozen=True, slots=True)
class WritableSource:
    """A source whose rows the current role may change."""

    schema: str
    table: str
    owned: bool


def writable_sources(connection: Connection) -> list[WritableSource]:
    """Returns the sources whose rows the current role may change, which no worker needs."""
    return [WritableSource(**row) for row in connection.execute(statement("grants.writable_sources"))]


@dataclass(frozen=True, slots=True)
class OwnSchema:
    """Our schema, as the current role sees it."""

    role: str
    usable: bool


def own_schema(connection: Connection) -> OwnSchema | None:
    """Returns whether the current role may use our schema; None if there is no such schema."""
    row = connection.execute(statement("grants.own_schema")).fetchone()
    return None if row is None else OwnSchema(**row)


def closed_to_triggers(connection: Connection) -> list[str]:
    """Returns owners of trigger functions that may not insert into the tables that these write to: writes fail."""
    query = statement("grants.closed_to_triggers")
    return [row["owner"] for row in connection.execute(query, {"tables": list(WRITTEN_BY_TRIGGERS)})]


def trigger_superusers(connection: Connection) -> list[str]:
    """Returns superusers that own trigger functions."""
    return [row["owner"] for row in connection.execute(statement("grants.trigger_superusers"))]


@dataclass(frozen=True, slots=True)
class Access:
    """What the current role may do with a table."""

    oid: int
    schema: str
    table: str
    role: str
    usable: bool
    """Whether the role may use the schema."""
    filtered: bool
    """Whether row-level security applies to the role, and may hide rows."""
    lacking: tuple[str, ...]
    """Those of SELECT, INSERT, UPDATE and DELETE that the role lacks."""
    unreadable: tuple[str, ...]
    """Columns that the pipeline reads and the role may not."""

    @property
    def label(self) -> str:
        return f"{self.schema}.{self.table}"


def access(connection: Connection, oid: int, pipeline: Pipeline) -> Access:
    row = one(connection, statement("grants.access"), {"oid": oid, "pipeline_id": pipeline.id})
    return Access(**{**row, "lacking": tuple(row["lacking"]), "unreadable": tuple(row["unreadable"])})


def _grant(connection: Connection, query: sql.Composed, **params: str) -> None:
    for row in connection.execute(query, params).fetchall():
        connection.execute(sql.SQL(row["grant"]))


def _quoted(*name: str) -> str:
    return sql.Identifier(*name).as_string()
