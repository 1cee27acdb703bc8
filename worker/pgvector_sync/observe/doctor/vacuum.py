"""Whether vacuum keeps up with our hot tables, and what holds it back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from pgvector_sync.database import one
from pgvector_sync.database.statements import statement
from pgvector_sync.observe.doctor.check import Finding, ok, quoted, warning
from pgvector_sync.runtime import Runtime

DEAD_TUPLES = 50_000
"""Ten times what starts an autovacuum of these tables."""
LONG = timedelta(minutes=5)
OLD_XIDS = 1_000_000
"""Transactions since a snapshot that nobody's clock dates: a standby's or a slot's."""


def hot_tables(runtime: Runtime) -> Iterator[Finding]:
    with runtime.database.transaction(read_only=True) as connection:
        switched_on = one(connection, statement("doctor.autovacuum"))["on"]
        tables = connection.execute(statement("doctor.hot_tables")).fetchall()
    if not switched_on:
        yield warning(
            "autovacuum is off: outbox and work grow for ever",
            "ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf();",
        )
    bloated = [row for row in tables if row["dead_tuples"] > DEAD_TUPLES]
    for row in bloated:
        last = f"{row['last_vacuum']:%Y-%m-%d %H:%M} UTC" if row["last_vacuum"] else "never"
        yield warning(
            f"{row['table']} has {row['dead_tuples']:,} dead tuples; last vacuum: {last}",
            f"see the check `transactions`, then: VACUUM {quoted('pgvector_sync', row['table'])};",
        )
    if switched_on and not bloated:
        yield ok(", ".join(f"{row['table']}: {row['dead_tuples']:,} dead tuples" for row in tables))


def held_back(runtime: Runtime) -> Iterator[Finding]:
    with runtime.database.transaction(read_only=True) as connection:
        params = {"long": LONG, "old_xids": OLD_XIDS}
        holders = connection.execute(statement("doctor.holders"), params).fetchall()
        hidden = one(connection, statement("doctor.hidden_sessions"))
    for row in holders:
        yield _holder(row)
    if not holders:
        remark = (
            None
            if hidden["all_visible"]
            else "this role sees its own sessions only; for the others: "
            f"GRANT pg_read_all_stats TO {quoted(hidden['role'])};"
        )
        yield ok(f"none is older than {LONG}", remark)


def _holder(row: dict[str, Any]) -> Finding:
    age = "" if row["age"] is None else f", open for {timedelta(seconds=int(row['age'].total_seconds()))},"
    match row["kind"]:
        case "session":
            who = f"session {row['name']} ({row['detail']})"
            mend = f"end it where it was begun, or: SELECT pg_terminate_backend({row['name']});"
        case "prepared":
            who = f"prepared transaction {row['name']} of database {row['detail']}"
            mend = f"there: ROLLBACK PREPARED '{row['name'].replace(chr(39), chr(39) * 2)}'; -- or COMMIT PREPARED"
        case _:
            who = f"replication slot {row['name']} ({row['detail']})"
            mend = f"start its consumer, or, if nobody needs it: SELECT pg_drop_replication_slot('{row['name']}');"
    return warning(f"{who}{age} holds back vacuum: dead rows of outbox and work pile up", mend)
