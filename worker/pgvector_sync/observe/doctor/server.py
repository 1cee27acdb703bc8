"""The server: its version, encoding, extension, clock and time-outs, and our schema in it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from pgvector_sync.observe.doctor.check import Finding, error, ok, quoted, warning
from pgvector_sync.runtime import Runtime
from pgvector_sync.settings import limits
from pgvector_sync.store import server
from pgvector_sync.store.migrations import MINIMUM_PGVECTOR, MINIMUM_POSTGRES, check_schema, newest
from pgvector_sync.store.triggers import TOAST_CHUNK_ID_SINCE

CLOCK_TOLERANCE = timedelta(seconds=1)
ITERATIVE_SCANS_SINCE = (0, 8)


def version(runtime: Runtime) -> Iterator[Finding]:
    with runtime.database.transaction(read_only=True) as connection:
        number = connection.info.server_version
        seen = server.version(connection)
    label = f"PostgreSQL {seen.version}"
    if number < MINIMUM_POSTGRES:
        yield error(f"{label} is too old", f"use PostgreSQL {MINIMUM_POSTGRES // 10000} or later")
    elif number < TOAST_CHUNK_ID_SINCE:
        yield ok(
            label,
            "before PostgreSQL 17, an update of untracked columns reads long texts, to see that they are the same",
        )
    else:
        yield ok(label)
    if seen.standby:
        yield error("this is a standby, and workers write", "point DATABASE_URL to the primary")


def encoding(runtime: Runtime) -> Iterator[Finding]:
    with runtime.database.connection() as connection:
        name = connection.info.parameter_status("server_encoding") or "unknown"
    mend = "dump it into a database made by CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
    if name == "SQL_ASCII":
        yield error("the database is SQL_ASCII: its texts are bytes of no known encoding", mend)
    elif name != "UTF8":
        yield warning(f"the database is {name}; pgvector-sync is tested with UTF8", mend)
    else:
        yield ok(name)


def pgvector(runtime: Runtime) -> Iterator[Finding]:
    with runtime.database.transaction(read_only=True) as connection:
        found = server.pgvector(connection)
    if found is None:
        yield error("the extension vector is not installed in this database", "CREATE EXTENSION vector;")
        return
    number = tuple(int(part) for part in re.findall(r"\d+", found.version)[:2])
    label = f"pgvector {found.version} in schema {found.schema}"
    if number < MINIMUM_PGVECTOR:
        yield error(f"{label} is too old, 0.7 is needed", "ALTER EXTENSION vector UPDATE;")
    elif number < ITERATIVE_SCANS_SINCE:
        yield ok(
            label,
            "from 0.8 on, an index scan goes on until enough rows pass `where`: ALTER EXTENSION vector UPDATE;",
        )
    else:
        yield ok(label)
    if not found.usable:
        yield error(
            f"role {found.role} may not use schema {found.schema}, where pgvector lives",
            f"GRANT USAGE ON SCHEMA {quoted(found.schema)} TO {quoted(found.role)};",
        )


def clock(runtime: Runtime) -> Iterator[Finding]:
    with runtime.database.transaction(read_only=True) as connection:
        before, ticks = datetime.now(UTC), time.monotonic()
        theirs = server.clock(connection)
        half = timedelta(seconds=(time.monotonic() - ticks) / 2)
    apart = abs(theirs - (before + half))
    seen = f"{apart.total_seconds():.2f} s between the database and this machine"
    if apart > CLOCK_TOLERANCE + half:
        yield ok(seen, "only the database's clock decides here, but times in logs won't match: set up NTP")
    else:
        yield ok(seen)


def timeouts(runtime: Runtime) -> Iterator[Finding]:
    settings = runtime.settings
    with runtime.database.transaction(read_only=True) as connection:
        deadlock = server.deadlock_timeout(connection)
    wrong = limits.problems(settings)
    for problem in wrong:
        yield error(str(problem), problem.hint or "see docs/configuration.md")
    if settings.lock_timeout * 2 > deadlock:
        yield warning(
            f"a worker waits {_seconds(settings.lock_timeout)} for a lock, and Postgres looks for deadlocks after "
            f"{_seconds(deadlock)}: the application's transaction could be the one that it cancels",
            "set PGVECTOR_SYNC_LOCK_TIMEOUT to a tenth of the server's deadlock_timeout",
        )
    elif not wrong:
        yield ok(
            f"call {_seconds(settings.longest_call)} < batch {_seconds(settings.deadline)}, "
            f"lease {_seconds(settings.lease)}, renewed every {_seconds(settings.renew_every)}, "
            f"lock {_seconds(settings.lock_timeout)} < deadlock_timeout {_seconds(deadlock)}"
        )


def schema(runtime: Runtime) -> Iterator[Finding]:
    """Raises MigrationRefused."""
    with runtime.database.transaction(read_only=True) as connection:
        check_schema(connection)
        at = newest(connection)
    yield ok(f"at {at}, this program's newest migration")


def _seconds(duration: timedelta) -> str:
    return f"{duration.total_seconds():g} s"
