"""DDL on a busy table: short waits and many tries, so that the writers behind it never wait for long."""

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
"""A CREATE TRIGGER that waits blocks every writer behind it, so it waits this long and then steps aside."""
DDL_PATIENCE = timedelta(minutes=2)
BEYOND_DEADLOCK_TIMEOUT = timedelta(milliseconds=500)
"""An autovacuum worker that is in somebody's way is told so after deadlock_timeout, and then needs a moment."""
_SEE_TRANSACTIONS = (
    "end long transactions (SELECT pid, xact_start, state, application_name FROM pg_stat_activity "
    "WHERE state <> 'idle' ORDER BY xact_start)"
)
NAMED = 3
"""Holders that a message names."""


@dataclass(frozen=True, slots=True)
class Site:
    """The tables that DDL locks: a source against writers, targets against everybody."""

    source: Relation | None = None
    targets: tuple[Relation, ...] = ()

    @property
    def label(self) -> str:
        relation = self.source or self.targets[0]
        return f"{relation[0]}.{relation[1]}"


def in_a_gap(database: Database, site: Site, action: Callable[[Connection], T], *, say: Say) -> T:
    """Runs DDL in a gap between the users of its tables.

    Raises Refused where none comes, naming what is in the way.
    """
    asked: set[int | None] = set()

    def waiting(state: RetryCallState) -> None:
        held = holders(database, site)
        if state.attempt_number == 1:
            who = f" ({held[0].words})" if held else ""
            say(f"waiting for a gap between the writers of {site.label} …{who}")
        for holder in held:
            if holder.autovacuum and holder.pid not in asked:
                asked.add(holder.pid)
                _wait_past_autovacuum(database, site, holder)

    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(LOCK_CONFLICT),
            stop=stop_after_delay(DDL_PATIENCE),
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
    """Who holds locks on these tables that our DDL waits for, just now."""
    found: list[Holder] = []
    with database.transaction(read_only=True) as connection:
        groups = [([site.source] if site.source else [], False), (list(site.targets), True)]
        for relations, exclusive in groups:
            if relations:
                found += blockers.holders(connection, relations, exclusive=exclusive)
    return found


def _wait_past_autovacuum(database: Database, site: Site, holder: Holder) -> None:
    """Waits for one table just longer than the time after which autovacuum gives it up; holds it for no time.

    In a transaction that holds nothing else: otherwise the server might take our long wait for a deadlock, and
    cancel a statement of the application. An autovacuum against wraparound stays, and the tries go on.
    """
    try:
        with database.transaction(read_only=True) as connection:
            patience = deadlock_timeout(connection)
        with database.transaction(
            lock_timeout=patience + BEYOND_DEADLOCK_TIMEOUT, force_rollback=True
        ) as connection:
            relation = (holder.schema, holder.table)
            if relation in site.targets:
                target_ddl.lock(connection, relation)
            else:
                triggers.touch(connection, relation)
    except (*LOCK_CONFLICT, psycopg.ProgrammingError):
        return  # it is tried again, and then refused with its reason


def _refusal(site: Site, held: Sequence[Holder]) -> Refused:
    seconds = int(DDL_PATIENCE.total_seconds())
    again = "then run the command again: it goes on where it stopped"
    if not held:
        return Refused(
            f"for {seconds} seconds no gap came between the writers of {site.label}",
            hint=f"{_SEE_TRANSACTIONS}, {again}",
        )
    named = "; ".join(holder.words for holder in held[:NAMED])
    more = f"; and {len(held) - NAMED} more" if len(held) > NAMED else ""
    outs = dict.fromkeys(holder.way_out for holder in held[:NAMED])
    return Refused(
        f"for {seconds} seconds no gap came between the writers of {site.label}: in the way is {named}{more}",
        hint=f"{'; '.join(outs)} (pg_stat_activity shows more); {again}",
    )
