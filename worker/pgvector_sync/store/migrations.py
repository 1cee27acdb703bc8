"""Creates and upgrades the schema with numbered, checksummed migrations, in one process at a time.

A migration is additive: programs of earlier releases go on with the new schema. One that isn't contains the line
SHUTS_OUT, and programs that don't know it refuse to work with the schema (docs/decisions/0082).
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.rows import DictRow
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from pgvector_sync.database import Connection, begin, connect, one
from pgvector_sync.database.statements import sql_folder, statement
from pgvector_sync.errors import MigrationRefused, Refused
from pgvector_sync.store import grants, locks, watch

MINIMUM_POSTGRES = 150000
MINIMUM_PGVECTOR = (0, 7)
_FILE = re.compile(r"(\d{4})_(\w+)\.sql")
SHUTS_OUT = "-- shuts out older programs"
"""The line of a migration after which programs that don't know it must not work with the schema."""
_WAIT = timedelta(minutes=2)
_TRIES = 3
_CREATED_MEANWHILE = (
    psycopg.errors.DuplicateSchema,
    psycopg.errors.DuplicateTable,
    psycopg.errors.DuplicateObject,
    psycopg.errors.UniqueViolation,
)
"""Errors after which a migration is retried. Before the ledger exists there is nothing to lock: a second process
that creates the same schema waits for the first, fails with one of these, and finds everything when it retries."""


@dataclass(frozen=True)
class Migration:
    """One file in `sql/migrations`."""

    number: int
    name: str
    path: Path

    @cached_property
    def body(self) -> str:
        return self.path.read_text("utf-8")

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.body.encode()).hexdigest()

    @property
    def shuts_out(self) -> bool:
        """Whether programs that don't know this migration must not work with the schema."""
        return SHUTS_OUT in self.body.splitlines()


def migrations(folder: Path | None = None) -> list[Migration]:
    """Returns the migrations of this program, in order."""
    known = []
    for path in sorted((folder or sql_folder() / "migrations").glob("*.sql")):
        match = _FILE.fullmatch(path.name)
        if match is None:
            raise MigrationRefused(f"expected a name like NNNN_name.sql, got {path.name}")
        known.append(Migration(int(match[1]), match[2], path))
    return known


def migrate(conninfo: str, *, folder: Path | None = None) -> list[Migration]:
    """Upgrades the schema and returns the migrations that were applied; [] if it was up to date.

    Raises Refused for a wrong version, a missing extension or grant, MigrationRefused for a newer schema or an
    edited migration, and psycopg.OperationalError.
    """
    known = migrations(folder)
    with connect(conninfo) as connection:
        _require_versions(connection)
        try:
            for attempt in Retrying(
                retry=retry_if_exception_type(_CREATED_MEANWHILE), stop=stop_after_attempt(_TRIES), reraise=True
            ):
                with attempt, begin(connection, lock_timeout=_WAIT, durable=True):
                    return _migrate(connection, known)
        except psycopg.errors.LockNotAvailable:
            raise Refused(
                "another migration has been running for two minutes",
                hint="look for it in pg_stat_activity, then run `pgvector-sync migrate` again",
            ) from None
    raise AssertionError("unreachable")  # pragma: no cover - reraise=True


def _migrate(connection: Connection, known: list[Migration]) -> list[Migration]:
    """Migrates in one transaction. Creating the ledger first blocks a second process, see `_CREATED_MEANWHILE`."""
    _create_ledger(connection)
    _require_extension(connection)
    applied = _apply(connection, known)
    with suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
        watch.repair_sequences(connection)
    return applied


def check_schema(connection: Connection, *, folder: Path | None = None) -> None:
    """Raises MigrationRefused unless this program can work with the database's schema.

    The schema must have all migrations that this program knows. It may have others that don't shut it out.
    """
    known = migrations(folder)
    state = one(connection, statement("migrations.schema_exists"))
    if not state["ledger_exists"]:
        raise MigrationRefused("this database has no pgvector_sync schema", hint="run `pgvector-sync migrate`")
    if not state["may_read"]:
        role = sql.Identifier(state["role"]).as_string()
        raise Refused(
            f"role {state['role']} may not use the schema pgvector_sync",
            hint=f"GRANT USAGE ON SCHEMA pgvector_sync TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA "
            f"pgvector_sync TO {role}; -- for reading; what a worker needs: docs/operations.md",
        )
    pending = _pending(connection, known)
    if pending:
        raise MigrationRefused(
            f"the schema lacks {', '.join(f'{m.number:04d}_{m.name}' for m in pending)}",
            hint="run `pgvector-sync migrate`",
        )


def program_version() -> str:
    """Returns the version of this program."""
    try:
        return version("pgvector-sync")
    except PackageNotFoundError:  # run from a source tree without an installation
        return "0.0.0"


def newest(connection: Connection) -> str:
    """Returns the last applied migration, such as `0002_runs`."""
    row = one(connection, statement("migrations.newest"))
    return f"{row['number']:04d}_{row['name']}"


def _create_ledger(connection: Connection) -> None:
    """Creates the schema and the ledger, unless they exist."""
    state = one(connection, statement("migrations.schema_exists"))
    if state["ledger_exists"]:
        return
    try:
        with connection.transaction():
            if not state["schema_exists"]:
                connection.execute(statement("migrations.create_schema"))
            connection.execute(statement("migrations.create_ledger"))
    except psycopg.errors.InsufficientPrivilege as error:
        if state["schema_exists"]:
            raise _not_ours(state) from None
        _require_extension(connection)  # if it is missing too, that is reported first
        server = one(connection, statement("migrations.extension"))
        raise Refused(
            f"role {server['role']} may not create the schema pgvector_sync ({error.sqlstate})",
            hint=f"GRANT CREATE ON DATABASE {sql.Identifier(server['database']).as_string()} "
            f"TO {sql.Identifier(server['role']).as_string()};",
        ) from None


def _apply(connection: Connection, known: list[Migration]) -> list[Migration]:
    state = one(connection, statement("migrations.schema_exists"))
    if not state["may_read"]:
        raise _not_ours(state)
    if not _pending(connection, known):
        return []
    try:
        locks.lock_ledger(connection)
        pending = _pending(connection, known)  # another process may have applied them while we waited
        for migration in pending:
            connection.execute(
                statement("migrations.record"),
                {
                    "number": migration.number,
                    "name": migration.name,
                    "checksum": migration.checksum,
                    "shuts_out": migration.shuts_out,
                    "program": program_version(),
                },
            )
            connection.execute(sql.SQL(migration.body))
        if pending:
            grants.repeat(connection)
    except psycopg.errors.InsufficientPrivilege:
        raise _not_ours(state) from None
    return pending


def _not_ours(state: DictRow) -> Refused:
    owner, role = (sql.Identifier(state[name]).as_string() for name in ("owner", "role"))
    return Refused(
        f"role {state['role']} may not use the schema pgvector_sync, which {state['owner']} owns",
        hint=f"GRANT {owner} TO {role};",
    )


def _require_admitted(applied: dict[int, DictRow], *, newest: int) -> None:
    """Raises MigrationRefused if a migration that this program doesn't know shuts it out."""
    shut_out = [row for number, row in applied.items() if number > newest and row["shuts_out"]]
    if shut_out:
        row = shut_out[0]
        by = f" by pgvector-sync {row['program']}" if row["program"] else ""
        wanted = f"'pgvector-sync>={row['program']}'" if row["program"] else "pgvector-sync"
        raise MigrationRefused(
            f"the schema was migrated{by} to {row['number']:04d}_{row['name']}, which shuts out this program "
            f"({program_version()}, up to {newest:04d})",
            hint=f"upgrade pgvector-sync on this machine: pip install --upgrade {wanted}",
        )


def _pending(connection: Connection, known: list[Migration]) -> list[Migration]:
    applied = {row["number"]: row for row in connection.execute(statement("migrations.applied"))}
    _require_admitted(applied, newest=max((m.number for m in known), default=0))
    for migration in known:
        row = applied.get(migration.number)
        if row is not None and row["checksum"] != migration.checksum:
            raise MigrationRefused(
                f"migration {migration.number:04d}_{migration.name} was edited after it had been applied",
                hint="install an unmodified pgvector-sync",
            )
    return [m for m in known if m.number not in applied]


def _require_versions(connection: Connection) -> None:
    if connection.info.server_version < MINIMUM_POSTGRES:
        raise Refused(
            f"expected PostgreSQL 15 or later, got {connection.info.server_version // 10000}",
            hint="upgrade the server",
        )


def _require_extension(connection: Connection) -> None:
    extension = one(connection, statement("migrations.extension"))
    if extension["installed"] is None:
        if extension["available"] is None:
            raise Refused(
                "this server has no pgvector",
                hint="install pgvector on the server (https://github.com/pgvector/pgvector#installation)",
            )
        try:
            with connection.transaction():
                connection.execute(statement("migrations.create_extension"))
        except psycopg.errors.InsufficientPrivilege:
            raise Refused(
                f"role {extension['role']} may not create the extension vector in {extension['database']}",
                hint="as an administrator, run: CREATE EXTENSION vector;",
            ) from None
        extension = one(connection, statement("migrations.extension"))
    version = tuple(int(part) for part in re.findall(r"\d+", extension["installed"])[:2])
    if version < MINIMUM_PGVECTOR:
        raise Refused(
            f"expected pgvector 0.7 or later, got {extension['installed']}",
            hint="run: ALTER EXTENSION vector UPDATE;",
        )
