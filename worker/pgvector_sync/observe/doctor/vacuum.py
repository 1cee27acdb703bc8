"""Whether vacuum keeps up with our hot tables, and what holds it back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from pgvector_sync.observe.doctor.check import Finding, ok, quoted, warning
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import vacuum
from pgvector_sync.store.vacuum import VacuumHolder

DEAD_TUPLES = 50_000
"""Ten times what starts an autovacuum of these tables."""
LONG = timedelta(minutes=5)
OLD_XIDS = 1_000_000
"""Transactions since a snapshot that nobody's clock dates: a standby's or a slot's."""


def hot_tables(runtime: Runtime) -> Iterator[Finding]:
    with runtime.database.transaction(read_only=True) as connection:
        switched_on = vacuum.enabled(connection)
        tables = vacuum.hot_tables(connection)
    if not switched_on:
        yield warning(
            "autovacuum is off: outbox and work grow for ever",
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
        holders = vacuum.holders(connection, long=LONG, old_xids=OLD_XIDS)
        sees = vacuum.visibility(connection)
    for holder in holders:
        yield _holder(holder)
    if not holders:
        remark = (
            None
            if sees.all_visible
            else "this role sees its own sessions only; for the others: "
            f"GRANT pg_read_all_stats TO {quoted(sees.role)};"
        )
        yield ok(f"none is older than {LONG}", remark)


def _holder(holder: VacuumHolder) -> Finding:
    name, detail = holder.name, holder.detail
    age = "" if holder.age is None else f", open for {timedelta(seconds=int(holder.age.total_seconds()))},"
    match holder.kind:
        case "session":
            who = f"session {name} ({detail})"
            mend = f"end it where it was begun, or: SELECT pg_terminate_backend({name});"
        case "prepared":
            who = f"prepared transaction {name} of database {detail}"
            mend = f"there: ROLLBACK PREPARED '{name.replace(chr(39), chr(39) * 2)}'; -- or COMMIT PREPARED"
        case _:
            who = f"replication slot {name} ({detail})"
            mend = f"start its consumer, or, if nobody needs it: SELECT pg_drop_replication_slot('{name}');"
    return warning(f"{who}{age} holds back vacuum: dead rows of outbox and work pile up", mend)
