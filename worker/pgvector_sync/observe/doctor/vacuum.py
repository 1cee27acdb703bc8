"""Checks that vacuum keeps up with outbox and work, and what holds it back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from pgvector_sync.observe.doctor.check import quoted
from pgvector_sync.observe.finding import Finding, ok, warning
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import vacuum
from pgvector_sync.store.vacuum import VacuumHolder

DEAD_TUPLES = 50_000
"""Ten times the threshold at which autovacuum starts on these tables."""
MAX_TRANSACTION_AGE = timedelta(minutes=5)
OLD_XIDS = 1_000_000
"""A standby's or slot's snapshot has no time, so its age is counted in transactions."""


def hot_tables(runtime: Runtime) -> Iterator[Finding]:
    with runtime.database.transaction(read_only=True) as connection:
        switched_on = vacuum.enabled(connection)
        tables = vacuum.hot_tables(connection)
    if not switched_on:
        yield warning(
            "autovacuum is off: outbox and work grow without bound",
            "ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf();",
        )
    bloated = [hot for hot in tables if hot.dead_tuples > DEAD_TUPLES]
    for hot in bloated:
        last = f"{hot.last_vacuum:%Y-%m-%d %H:%M} UTC" if hot.last_vacuum else "never"
        yield warning(
            f"{hot.table} has {hot.dead_tuples:,} dead tuples; last vacuum: {last}",
            f"see the check `transactions`, then: VACUUM {quoted('pgvector_sync', hot.table)};",
        )
    if switched_on and not bloated:
        yield ok(", ".join(f"{hot.table}: {hot.dead_tuples:,} dead tuples" for hot in tables))


def held_back(runtime: Runtime) -> Iterator[Finding]:
    with runtime.database.transaction(read_only=True) as connection:
        holders = vacuum.holders(connection, long=MAX_TRANSACTION_AGE, old_xids=OLD_XIDS)
        visibility = vacuum.visibility(connection)
    for holder in holders:
        yield _holder(holder)
    if not holders:
        remark = (
            None
            if visibility.all_visible
            else "this role only sees its own sessions; to see all: "
            f"GRANT pg_read_all_stats TO {quoted(visibility.role)};"
        )
        yield ok(f"no transaction is older than {MAX_TRANSACTION_AGE}", remark)


def _holder(holder: VacuumHolder) -> Finding:
    name, detail = holder.name, holder.detail
    age = "" if holder.age is None else f", open for {timedelta(seconds=int(holder.age.total_seconds()))},"
    match holder.kind:
        case "session":
            label = f"session {name} ({detail})"
            fix = f"end it in its application, or: SELECT pg_terminate_backend({name});"
        case "prepared":
            label = f"prepared transaction {name} of database {detail}"
            fix = f"run there: ROLLBACK PREPARED '{name.replace(chr(39), chr(39) * 2)}'; -- or COMMIT PREPARED"
        case _:
            label = f"replication slot {name} ({detail})"
            fix = f"start its consumer, or, if it is no longer needed: SELECT pg_drop_replication_slot('{name}');"
    return warning(f"{label}{age} holds back vacuum: dead tuples of outbox and work accumulate", fix)
