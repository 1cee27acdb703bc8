"""The protocol as a state machine: the application, two workers, drain, backfill and clock, in random order."""

from __future__ import annotations

from typing import Any

import psycopg
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pgvector_sync.batch.claim import Batch
from pgvector_sync.batch.decide import Prepared
from pgvector_sync.model import Lane
from pgvector_sync.runs import run
from pgvector_sync.store import pipelines
from proof.arena import REFUSED, Arena, Violation, soon, writer

KEYS = st.integers(1, 2)
BODIES = st.sampled_from(["one", "two", "three", REFUSED, None])
WORKERS = st.sampled_from([0, 1])
CHANGES = {
    "insert": "INSERT INTO docs (id, body) VALUES (%(key)s, %(body)s) ON CONFLICT DO NOTHING",
    "upsert": "INSERT INTO docs (id, body) VALUES (%(key)s, %(body)s) "
    "ON CONFLICT (id) DO UPDATE SET body = excluded.body",
    "update": "UPDATE docs SET body = %(body)s WHERE id = %(key)s",
    "untracked": "UPDATE docs SET note = %(body)s WHERE id = %(key)s",
    "delete": "DELETE FROM docs WHERE id = %(key)s",
    "replace": "DELETE FROM docs WHERE id = %(key)s; INSERT INTO docs (id, body) VALUES (%(key)s, %(body)s)",
    "change key": "UPDATE docs SET id = 3 WHERE id = %(key)s",
    "change key back": "UPDATE docs SET id = %(key)s WHERE id = 3",
    "swap keys": "UPDATE docs SET id = -1 WHERE id = 1; UPDATE docs SET id = 1 WHERE id = 2; "
    "UPDATE docs SET id = 2 WHERE id = -1",
    "truncate": "TRUNCATE docs",
    # the last statement fails, which rolls back the transaction
    "roll back": "DELETE FROM docs WHERE id = %(key)s; INSERT INTO docs VALUES (9), (9)",
}
"""Transactions of the application. `note` is untracked until the pipeline is applied with it."""
USUAL: dict[str, Any] = {}
VARIANTS: list[dict[str, Any]] = [
    USUAL,
    {"text": ["body", "note"]},
    {"where": "id <> 2"},
    {"model": "text-embedding-3-large"},
]
OVER = "SELECT key, attempts FROM pgvector_sync.work WHERE attempts > %s"


class Machine(RuleBasedStateMachine):
    """Starts with an empty source and the default pipeline; `arena` and the second worker are reused between runs."""

    runs = 0

    def __init__(self, arena: Arena, second: Arena) -> None:
        super().__init__()
        type(self).runs += 1
        self.arena = arena
        self.workers = (arena, second)
        arena.reset()
        arena.checks = second.checks = False  # the invariant checks after every step
        self.variant = USUAL
        if arena.synced.declared["docs"] != self._declared(USUAL):
            self.apply(USUAL, backfills=False)
        self.batches: list[Batch | None] = [None, None]
        self.prepared: list[list[Prepared] | None] = [None, None]
        self.slow: psycopg.Connection[Any] | None = None
        self.sound = True

    # -- the application -----------------------------------------------------------------------------------

    def _writes(self, *statements: str, **values: Any) -> None:
        """Runs one transaction, and abandons it if another one of the application blocks it."""
        with self.arena.application.transaction():
            self.arena.application.execute("SET LOCAL lock_timeout = '5ms'")
            try:
                with self.arena.application.transaction():
                    for statement in statements:
                        self.arena.application.execute(statement, values)
            except (psycopg.errors.LockNotAvailable, psycopg.errors.UniqueViolation):
                pass

    @initialize(bodies=st.tuples(BODIES, BODIES), settled=st.booleans())
    def begin(self, bodies: tuple[str | None, str | None], settled: bool) -> None:
        for key, body in enumerate(bodies, start=1):
            self._writes(CHANGES["insert"], key=key, body=body)
        if settled:
            self.arena.at_rest()

    @rule(change=st.sampled_from(sorted(CHANGES)), key=KEYS, body=BODIES)
    def change(self, change: str, key: int, body: str | None) -> None:
        self._writes(*CHANGES[change].split(";"), key=key, body=body)

    @rule(key=KEYS, body=BODIES)
    def update(self, key: int, body: str | None) -> None:
        self._writes(CHANGES["update"], key=key, body=body)

    @precondition(lambda self: self.slow is None)
    @rule(key=KEYS, body=BODIES, level=st.sampled_from(["READ COMMITTED", "REPEATABLE READ"]))
    def begin_slowly(self, key: int, body: str | None, level: str) -> None:
        self.slow = writer(self.arena)
        self.slow.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        self.slow.execute(
            "INSERT INTO docs (id, body) VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET body = excluded.body",
            [key, body],
        )

    @precondition(lambda self: self.slow is not None)
    @rule(deletes=st.booleans(), commits=st.booleans())
    def end_slowly(self, deletes: bool, commits: bool) -> None:
        assert self.slow is not None
        with self.slow:
            try:
                if deletes:
                    self.slow.execute("DELETE FROM docs WHERE id = 1")
            except psycopg.errors.SerializationFailure as error:
                self.slow.rollback()
                if "docs_embedding" in str(error):
                    raise Violation("G5", "our trigger makes the application's transaction fail") from error
            if not commits:
                self.slow.rollback()
        self.slow = None

    # -- ours ----------------------------------------------------------------------------------------------

    @rule(full=st.booleans())
    def drain(self, full: bool) -> None:
        if full:
            self.arena.drain_of_loop._scanned_at = 0.0
        self.arena.drain_of_loop(until=soon())

    @rule(number=WORKERS, key=KEYS, body=BODIES)
    def take_a_step(self, number: int, key: int, body: str | None) -> None:
        """Takes a worker's next step: claim, embed or write. If there is nothing to claim, changes a row first."""
        worker, batch, prepared = self.workers[number], self.batches[number], self.prepared[number]
        if batch is None:
            worker.drain()
            if (batch := worker.try_claim(Lane.BULK)) is None:
                self._writes(*CHANGES["upsert"].split(";"), key=key, body=body)
                worker.drain()
                batch = worker.try_claim(Lane.BULK)
            self.batches[number] = batch
        elif prepared is None:
            self.prepared[number] = worker.embed(batch)
        else:
            if prepared:
                worker.write(batch, prepared)
            self.batches[number] = self.prepared[number] = None

    @rule(number=WORKERS, key=KEYS, body=BODIES)
    def take_two_steps(self, number: int, key: int, body: str | None) -> None:
        for _ in range(2):
            self.take_a_step(number, key, body)

    @rule(number=WORKERS, key=KEYS, body=BODIES)
    def take_all_steps(self, number: int, key: int, body: str | None) -> None:
        for _ in range(3):
            self.take_a_step(number, key, body)

    @rule(number=WORKERS, crashes=st.booleans())
    def write_twice_or_crash(self, number: int, crashes: bool) -> None:
        """A worker writes again because it doesn't know that it has written, or it crashes."""
        batch, prepared = self.batches[number], self.prepared[number]
        if crashes:
            self.batches[number] = self.prepared[number] = None
        elif batch is not None and prepared:
            self.workers[number].write(batch, prepared)

    @rule(number=WORKERS, lane=st.sampled_from(list(Lane)))
    def process(self, number: int, lane: Lane) -> None:
        self.workers[number].process(lane)

    @precondition(lambda self: self.slow is None)
    @rule(variant=st.sampled_from(VARIANTS), backfills=st.booleans())
    def apply(self, variant: dict[str, Any], backfills: bool) -> None:
        self.variant = variant
        self.arena.synced.declare(**variant)
        self.arena.synced.apply()
        self.arena.watch()
        if backfills:
            self.backfill()

    def _declared(self, variant: dict[str, Any]) -> dict[str, Any]:
        before = dict(self.arena.synced.declared)
        self.arena.synced.declare(**variant)
        declared = self.arena.synced.declared["docs"]
        self.arena.synced.declared = before
        return declared

    @rule()
    def backfill(self) -> None:
        query = "UPDATE pgvector_sync.run SET visible_at = now() WHERE state = 'running' RETURNING id"
        for (run_id,) in self.arena.application.execute(query).fetchall():
            run.carry_out(self.arena.runtime, run_id, until=soon())

    @rule(number=WORKERS, key=KEYS, body=BODIES)
    def pause(self, number: int, key: int, body: str | None) -> None:
        """Takes a worker's next step while the pipeline is paused."""
        with self.arena.runtime.database.transaction() as connection:
            pipelines.pause(connection, "docs", None)
        self.take_a_step(number, key, body)
        with self.arena.runtime.database.transaction() as connection:
            pipelines.resume(connection, "docs")

    # -- the clock -----------------------------------------------------------------------------------------

    @rule(leases=st.booleans())
    def time_passes(self, leases: bool) -> None:
        """Ends back-offs, and with `leases` all leases as well."""
        self.arena.end_backoffs()
        if leases:
            self.arena.expire_leases()

    # -- the invariant -------------------------------------------------------------------------------------

    @invariant()
    def holds(self) -> None:
        self.sound = False
        self.arena.check()
        limit = self.arena.runtime.settings.attempts
        for key, attempts in self.arena.observer.execute(OVER, [limit], prepare=True):
            raise Violation("G10", f"{attempts} attempts of {key}")
        self.sound = True

    def teardown(self) -> None:
        if self.slow is not None:
            self.slow.close()
        if self.sound:
            self.arena.at_rest()
