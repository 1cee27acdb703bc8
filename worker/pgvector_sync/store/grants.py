"""Who may do what in our schema: a worker's role needs little, and the owner's rights are nobody else's."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import part, statement
from pgvector_sync.errors import Refused
from pgvector_sync.model import Pipeline

SCHEMA = "pgvector_sync"

_SPELLED = part("grants.spelled").format(needed=part("grants.needed"))
_WORKERS = part("grants.workers")


def _granted(tables: sql.SQL) -> sql.Composed:
    return part("grants.granted").format(tables=tables)


@dataclass(frozen=True, slots=True)
class Grant:
    """Privileges on one table of one role, as GRANT and REVOKE spell them."""

    role: str
    """PUBLIC, or the name of a role."""
    schema: str
    table: str
    privileges: tuple[str, ...]
    needed: tuple[str, ...] = ()
    """What a worker needs of them on single columns."""

    @property
    def revoke(self) -> str:
        """The statements that take away what is not needed."""
        grantee = self.role if self.role == "PUBLIC" else _quoted(self.role)
        table = _quoted(self.schema, self.table)
        revoke = f"REVOKE {', '.join(self.privileges)} ON {table} FROM {grantee};"
        return f"{revoke} GRANT {', '.join(self.needed)} ON {table} TO {grantee};" if self.needed else revoke


@dataclass(frozen=True, slots=True)
class Lacking:
    """Privileges that a worker needs, and the tables of our schema on which this role lacks them."""

    privileges: tuple[str, ...]
    tables: tuple[str, ...]


def lacking(connection: Connection) -> list[Lacking]:
    """What the current role lacks of what a worker needs in our schema; [] where it lacks nothing."""
    rows = connection.execute(statement("grants.lacking").format(spelled=_SPELLED))
    return [Lacking(tuple(row["privileges"]), tuple(row["tables"])) for row in rows]


def only_reads(connection: Connection) -> bool:
    """Whether the current role is a monitor's: it reads our tables and writes to none."""
    return bool(one(connection, statement("grants.only_reads").format(spelled=_SPELLED))["only_reads"])


def excess(connection: Connection) -> list[Grant]:
    """What any role but the owner may do beyond what a worker needs, in our schema and on targets."""
    query = statement("grants.excess").format(
        granted=_granted(part("grants.ours_and_targets")), spelled=_SPELLED, workers=_WORKERS
    )
    return [
        Grant(row["role"], row["schema"], row["name"], tuple(row["privileges"]), tuple(row["needed"]))
        for row in connection.execute(query)
    ]


def require_sole_author(connection: Connection) -> None:
    """Raises Refused where a role with fewer rights than the current one may write what the current one would run.

    The texts, conditions and addresses in `pipeline`, `source` and `provider` run with the rights of whoever
    embeds, searches or counts: what a lesser role has written must not run as the owner.
    """
    query = statement("grants.writers").format(granted=_granted(part("grants.declarations")), spelled=_SPELLED)
    roles = [row["role"] for row in connection.execute(query)]
    if roles:
        raise Refused(
            f"{', '.join(roles)} may change what this role would run as the owner of {SCHEMA}",
            hint="`pgvector-sync doctor` says what to revoke (excess_grants)",
        )


def repeat(connection: Connection) -> None:
    """Gives the roles that work with or read our tables what they need on new ones. For `migrate`."""
    _grant(connection, statement("grants.repeat").format(spelled=_SPELLED, workers=_WORKERS))


def grant_target(connection: Connection, target: tuple[str, str]) -> None:
    """Gives the roles of workers what they need on a target that was made in this transaction."""
    query = statement("grants.on_target").format(workers=_WORKERS)
    _grant(connection, query, target=sql.Identifier(*target).as_string())


def closed_to_workers(connection: Connection, oid: int) -> list[str]:
    """The roles of workers that may read no column of a source."""
    query = statement("grants.closed_to_workers").format(workers=_WORKERS)
    return [row["role"] for row in connection.execute(query, {"oid": oid})]


@dataclass(frozen=True, slots=True)
class Role:
    """The current role."""

    role: str
    superuser: bool
    bypasses: bool
    """Row-level security doesn't apply to it."""
    embedded: bool
    """It is the one role of an embedded server."""


def current_role(connection: Connection, *, embedded_cluster: str) -> Role:
    return Role(**one(connection, statement("grants.role"), {"cluster": embedded_cluster}))


@dataclass(frozen=True, slots=True)
class OwnSchema:
    role: str
    usable: bool


def own_schema(connection: Connection) -> OwnSchema | None:
    """Whether the current role may use our schema; None where there is none."""
    row = connection.execute(statement("grants.own_schema")).fetchone()
    return None if row is None else OwnSchema(**row)


def closed_to_triggers(connection: Connection) -> list[str]:
    """Owners of trigger functions who may not write to the outbox, so that every write to the source fails."""
    return [row["owner"] for row in connection.execute(statement("grants.closed_to_triggers"))]


def trigger_superusers(connection: Connection) -> list[str]:
    """Superusers that own trigger functions."""
    return [row["owner"] for row in connection.execute(statement("grants.trigger_superusers"))]


@dataclass(frozen=True, slots=True)
class Access:
    """What the current role may do with a table."""

    oid: int
    schema: str
    table: str
    role: str
    usable: bool
    """Whether it may use the schema."""
    filtered: bool
    """Row-level security hides rows from it."""
    lacking: tuple[str, ...]
    """Of SELECT, INSERT, UPDATE and DELETE."""
    unreadable: tuple[str, ...]
    """Columns that the pipeline reads, and the role may not."""

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
