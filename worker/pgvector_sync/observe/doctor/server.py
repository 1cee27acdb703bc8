"""Checks of the server: version, encoding, pgvector, clock, timeouts, and the version of our schema."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from pgvector_sync.index.known_bugs import known_bugs, newest_of, upgrade
from pgvector_sync.observe.doctor.check import quoted
from pgvector_sync.observe.finding import Finding, error, ok, warning
from pgvector_sync.runtime import Runtime
from pgvector_sync.settings import limits
from pgvector_sync.store import server
from pgvector_sync.store.capture import TOAST_CHUNK_ID_SINCE
from pgvector_sync.store.migrations import MINIMUM_PGVECTOR, MINIMUM_POSTGRES, check_schema, newest

CLOCK_TOLERANCE = timedelta(seconds=1)
ITERATIVE_SCANS_SINCE = (0, 8)


def version(runtime: Runtime) -> Iterator[Finding]:
    with runtime.database.transaction(read_only=True) as connection:
        number = connection.info.server_version
        seen = server.version(connection)
    label = f"PostgreSQL {seen.version}"
    if number < MINIMUM_POSTGRES:
        yield error(f"{label} is too old", f"upgrade to PostgreSQL {MINIMUM_POSTGRES // 10000} or later")
    elif number < TOAST_CHUNK_ID_SINCE:
        yield ok(
            label,
            "before PostgreSQL 17, updates of untracked columns read long texts to see whether they changed",
        )
    else:
        yield ok(label)
    if seen.standby:
        yield error("this is a standby, but workers need to write", "point DATABASE_URL at the primary")


def encoding(runtime: Runtime) -> Iterator[Finding]:
    with runtime.database.connection() as connection:
        name = connection.info.parameter_status("server_encoding") or "unknown"
    advice = "dump it, and restore it into: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
    if name == "SQL_ASCII":
        yield error("the encoding is SQL_ASCII: texts are bytes of an unknown encoding", advice)
    elif name != "UTF8":
        yield warning(f"the encoding is {name}; pgvector-sync is tested with UTF8 only", advice)
    else:
        yield ok(name)


def pgvector(runtime: Runtime) -> Iterator[Finding]:
    with runtime.database.transaction(read_only=True) as connection:
        installed = server.pgvector(connection)
    if installed is None:
        yield error("the extension vector isn't installed in this database", "CREATE EXTENSION vector;")
        return
    number = tuple(int(part) for part in re.findall(r"\d+", installed.version)[:2])
    label = f"pgvector {installed.version} in schema {installed.schema}"
    if number < MINIMUM_PGVECTOR:
        yield error(f"{label} is too old: expected 0.7 or later", "ALTER EXTENSION vector UPDATE;")
    elif number < ITERATIVE_SCANS_SINCE:
        yield from judge_version(
            installed,
            label,
            "from 0.8 on, index scans continue until enough rows match `where`: ALTER EXTENSION vector UPDATE;",
        )
    else:
        yield from judge_version(installed, label)
    if not installed.usable:
        yield error(
            f"role {installed.role} lacks USAGE on schema {installed.schema}, where pgvector is installed",
            f"GRANT USAGE ON SCHEMA {quoted(installed.schema)} TO {quoted(installed.role)};",
        )


def judge_version(installed: server.Extension, label: str, remark: str | None = None) -> Iterator[Finding]:
    """Say which known bugs the library on the server has. Those that only make a statement fail are a remark."""
    bugs = known_bugs(newest_of(installed.version, installed.files), bits=installed.bits)
    serious = [bug for bug in bugs if not bug.minor]
    if serious:
        yield warning(
            f"{label} has known bugs: " + "; ".join(bug.label for bug in serious),
            upgrade(serious),
        )
    elif bugs:
        yield ok(f"{label}: " + "; ".join(bug.label for bug in bugs), upgrade(bugs))
    else:
        yield ok(label, remark)


def clock(runtime: Runtime) -> Iterator[Finding]:
    with runtime.database.transaction(read_only=True) as connection:
        ours, started = datetime.now(UTC), time.monotonic()
        theirs = server.clock(connection)
        half = timedelta(seconds=(time.monotonic() - started) / 2)
    offset = abs(theirs - (ours + half))
    seen = f"{offset.total_seconds():.2f} s between the database and this machine"
    if offset > CLOCK_TOLERANCE + half:
        yield ok(
            seen, "pgvector-sync only uses the database's clock, but timestamps in logs won't match: set up NTP"
        )
    else:
        yield ok(seen)


def timeouts(runtime: Runtime) -> Iterator[Finding]:
    settings = runtime.settings
    with runtime.database.transaction(read_only=True) as connection:
        deadlock = server.deadlock_timeout(connection)
    problems = limits.problems(settings)
    for problem in problems:
        yield error(str(problem), problem.hint or "see docs/configuration.md")
    if settings.lock_timeout * 2 > deadlock:
        yield warning(
            f"workers wait up to {_seconds(settings.lock_timeout)} for a lock, too close to the server's "
            f"deadlock_timeout of {_seconds(deadlock)}: a deadlock could cancel the application's transaction",
            "set PGVECTOR_SYNC_LOCK_TIMEOUT to a tenth of the server's deadlock_timeout",
        )
    elif not problems:
        yield ok(
            f"call {_seconds(settings.longest_call)} < batch {_seconds(settings.deadline)}, "
            f"lease {_seconds(settings.lease)}, renewed every {_seconds(settings.renew_every)}, "
            f"lock {_seconds(settings.lock_timeout)} < deadlock_timeout {_seconds(deadlock)}"
        )


def schema(runtime: Runtime) -> Iterator[Finding]:
    """Check the schema's version. Raises MigrationRefused if it isn't the newest."""
    with runtime.database.transaction(read_only=True) as connection:
        check_schema(connection)
        at = newest(connection)
    yield ok(f"at {at}, the newest migration")


def _seconds(duration: timedelta) -> str:
    return f"{duration.total_seconds():g} s"
