"""DDL on busy tables: short lock waits and many retries, so that writers queueing behind it never wait long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import psycopg
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_random

from pgvector_sync.database import LOCK_CONFLICT, Connection, Database
from pgvector_sync.errors import Refused
from pgvector_sync.store import blockers, target_ddl, triggers
from pgvector_sync.store.blockers import Holder
from pgvector_sync.store.server import deadlock_timeout

T = TypeVar("T")
Say = Callable[[str], None]
Relation = tuple[str, str]
"""(schema, table)"""

DDL_LOCK_TIMEOUT = timedelta(milliseconds=500)
"""A waiting CREATE TRIGGER blocks every writer behind it, so it gives up after this time and is retried."""
DDL_TIMEOUT = timedelta(minutes=2)
AUTOVACUUM_CANCEL_TIME = timedelta(milliseconds=500)
"""The time an autovacuum needs to end. Postgres cancels one that blocks a lock after deadlock_timeout."""
_SEE_TRANSACTIONS = (
    "end long transactions (SELECT pid, xact_start, state, application_name FROM pg_stat_activity "
    "WHERE state <> 'idle' ORDER BY xact_start)"
)
LISTED_HOLDERS = 3
"""The maximum number of lock holders that a message lists."""


@dataclass(frozen=True, slots=True)
class Site:
    """The tables that DDL locks: the source against writers, the targets against readers too."""

    source: Relation | None = None
    targets: tuple[Relation, ...] = ()

    @property
    def label(self) -> str:
        relation = self.source or self.targets[0]
        return f"{relation[0]}.{relation[1]}"


def retry_ddl(database: Database, site: Site, action: Callable[[Connection], T], *, say: Say) -> T:
    """Run DDL in a transaction, retrying until its locks are free.

    say: called once if it has to wait.
    Raises Refused after DDL_TIMEOUT, with the holders of the locks.
    """
    cancelled: set[int | None] = set()

    def waiting(state: RetryCallState) -> None:
        held = holders(database, site)
        if state.attempt_number == 1:
            by = f" (held by {held[0].words})" if held else ""
            say(f"waiting for a lock on {site.label} …{by}")
        for holder in held:
            if holder.autovacuum and holder.pid not in cancelled:
                cancelled.add(holder.pid)
                _cancel_autovacuum(database, site, holder)

    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(LOCK_CONFLICT),
            stop=stop_after_delay(DDL_TIMEOUT),
            wait=wait_random(0.2, 1.0),
            before_sleep=waiting,
            reraise=True,
        ):
            with attempt, database.transaction(lock_timeout=DDL_LOCK_TIMEOUT, durable=True) as connection:
                return action(connection)
    except LOCK_CONFLICT:
        raise _refusal(site, holders(database, site)) from None
    except (psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable):
        raise Refused("another apply ran at the same time", hint="run `pgvector-sync apply` again") from None
    raise AssertionError("unreachable")  # pragma: no cover - reraise=True


def holders(database: Database, site: Site) -> list[Holder]:
    """List the current holders of locks that conflict with DDL on these tables."""
    conflicting: list[Holder] = []
    with database.transaction(read_only=True) as connection:
        groups = [([site.source] if site.source else [], False), (list(site.targets), True)]
        for relations, exclusive in groups:
            if relations:
                conflicting += blockers.holders(connection, relations, exclusive=exclusive)
    return conflicting


def _cancel_autovacuum(database: Database, site: Site, holder: Holder) -> None:
    """Wait for a table's lock just longer than deadlock_timeout, after which Postgres cancels the autovacuum.

    The transaction holds no other lock: otherwise the server might take the long wait for a deadlock and cancel a
    statement of the application. An autovacuum against wraparound isn't cancelled; the retries continue.
    """
    try:
        with database.transaction(read_only=True) as connection:
            timeout = deadlock_timeout(connection)
        with database.transaction(
            lock_timeout=timeout + AUTOVACUUM_CANCEL_TIME, force_rollback=True
        ) as connection:
            relation = (holder.schema, holder.table)
            if relation in site.targets:
                target_ddl.lock(connection, relation)
            else:
                triggers.touch(connection, relation)
    except (*LOCK_CONFLICT, psycopg.ProgrammingError):
        return  # the DDL is retried, and refused with a reason in the end


def _refusal(site: Site, held: Sequence[Holder]) -> Refused:
    seconds = int(DDL_TIMEOUT.total_seconds())
    again = "then run the command again: it continues where it stopped"
    if not held:
        return Refused(
            f"no lock on {site.label} within {seconds} seconds",
            hint=f"{_SEE_TRANSACTIONS}, {again}",
        )
    named = "; ".join(holder.words for holder in held[:LISTED_HOLDERS])
    more = f"; and {len(held) - LISTED_HOLDERS} more" if len(held) > LISTED_HOLDERS else ""
    ways_out = dict.fromkeys(holder.way_out for holder in held[:LISTED_HOLDERS])
    return Refused(
        f"no lock on {site.label} within {seconds} seconds: held by {named}{more}",
        hint=f"{'; '.join(ways_out)} (pg_stat_activity shows details); {again}",
    )
