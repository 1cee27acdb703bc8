"""Every order of the steps of several sessions, enumerated and run one after another.

A step is a transaction, or a statement inside a transaction that stays open: a writer's UPDATE and its COMMIT are two
steps, and a worker's write is four. Orders that differ only in independent steps count as one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import pytest

from pgvector_sync.batch import write
from pgvector_sync.database import LOCK_CONFLICT
from pgvector_sync.store import rows, runs
from proof.arena import Arena, soon, writer
from proof.sessions import Actor, application, stops_in_writes, worker
from support.endpoint import vector_of
from support.synced import DIMENSIONS, MODEL, TEXT_LIMIT


@dataclass(frozen=True)
class Step:
    actor: str
    name: str
    commits: bool = False
    looks: bool = False
    """Whether its outcome depends on what has been committed."""
    locks: frozenset[str] = frozenset()
    """The tables in which it locks rows until its transaction ends."""

    def __str__(self) -> str:
        return f"{self.actor}: {self.name}"


def independent(one: Step, other: Step) -> bool:
    """Whether swapping two neighbouring steps makes no difference. Two commits never are: each state between them is checked."""
    if one.actor == other.actor or (one.commits and other.commits) or one.locks & other.locks:
        return False
    return not ((one.commits and other.looks) or (other.commits and one.looks))


def orders(steps: Sequence[Sequence[Step]], first: Sequence[tuple[str, str]] = ()) -> Iterator[tuple[Step, ...]]:
    """One of each set of equivalent orders: the one whose independent neighbours are in the sequence of the actors.

    `first` has pairs of steps, of which the first must come before the second.
    """
    rank = {actor[0].actor: place for place, actor in enumerate(steps)}
    taken = [0] * len(steps)
    order: list[Step] = []

    def could_stand_earlier(step: Step) -> bool:
        for before in reversed(order):
            if not independent(before, step):
                return False
            if rank[before.actor] > rank[step.actor]:
                return True
        return False

    def extensions() -> Iterator[tuple[Step, ...]]:
        if len(order) == sum(map(len, steps)):
            yield tuple(order)
        names = {str(step) for step in order}
        for place, own in enumerate(steps):
            if taken[place] == len(own):
                continue
            step = own[taken[place]]
            if any(str(step) == later and earlier not in names for earlier, later in first):
                continue
            if could_stand_earlier(step):
                continue
            taken[place] += 1
            order.append(step)
            yield from extensions()
            order.pop()
            taken[place] -= 1

    return extensions()


# -- actors and plays --------------------------------------------------------------------------------------

WORK, TARGET = frozenset({"work"}), frozenset({"target"})


def batch(name: str, *, stops: Sequence[str] = ("look", "write")) -> list[Step]:
    """A worker's steps. `stops` are the places inside the write's transaction at which other sessions may act."""
    steps = [
        Step(name, "claim", commits=True, looks=True),
        Step(name, "embed", looks=True),
        Step(name, "lock", looks=True, locks=WORK | TARGET if "write" not in stops else WORK),
        Step(name, "look", looks=True, locks=TARGET if "write" not in stops else frozenset()),
        Step(name, "write", looks=True, locks=TARGET),
        Step(name, "commit", commits=True),
    ]
    return [step for step in steps if step.name not in ("look", "write") or step.name in stops]


def whole_batch(name: str) -> list[Step]:
    """The steps of a worker whose write is one step."""
    write = Step(name, "lock", commits=True, looks=True, locks=WORK | TARGET)
    return [step for step in batch(name, stops=()) if step.name in ("claim", "embed")] + [write]


def writes(*statements: str) -> list[Step]:
    """The application's steps: each statement, then its commit. A DELETE reads and locks the target."""
    steps = []
    for number, statement in enumerate(statements, start=1):
        removes = "DELETE" in statement
        steps.append(Step("application", statement, looks=removes, locks=TARGET if removes else frozenset()))
        steps.append(Step("application", f"commit {number}", commits=True))
    return steps


def once(actor: str, name: str) -> Step:
    return Step(actor, name, commits=True, looks=True)


LATE = (("A: claim", "B: claim"),)
"""B claims after A, when A's lease is lost: see `Stage`."""


def drains(times: int) -> list[Step]:
    return [once("drain", f"move {number}") for number in range(1, times + 1)]


ENQUEUER = [once("enqueuer", "enqueue")]


@dataclass(frozen=True)
class Play:
    """Actors with their steps. At the start, each row has the vector of `zero` and waits in work with its own text."""

    name: str
    steps: Sequence[Sequence[Step]]
    first: Sequence[tuple[str, str]] = ()
    rows: Mapping[int, str] = field(default_factory=lambda: {1: "one"})

    def orders(self) -> list[tuple[Step, ...]]:
        return list(orders(self.steps, self.first))


UPDATE = "UPDATE docs SET body = 'two' WHERE id = 1"
BACK = "UPDATE docs SET body = 'one' WHERE id = 1"
DELETE = "DELETE FROM docs WHERE id = 1"
AGAIN = "INSERT INTO docs (id, body) VALUES (1, 'again')"
KEY_CHANGE = "UPDATE docs SET id = 3 WHERE id = 1"
KEYS_MOVE = "UPDATE docs SET id = id + 1"

A, B = batch("A"), batch("B", stops=())

PLAYS = (
    Play("an update", [A, writes(UPDATE), drains(2), ENQUEUER]),
    Play("a delete", [A, writes(DELETE), drains(2), ENQUEUER]),
    Play("a key change", [A, writes(KEY_CHANGE), drains(2)]),
    Play("back and forth", [A, writes(UPDATE, BACK), drains(2)]),
    Play("a delete and an insert", [A, writes(DELETE, AGAIN), drains(2)]),
    Play("keys that move", [A, writes(KEYS_MOVE), drains(2)], rows={2: "two", 1: "one"}),
    Play("two workers", [A, B], LATE),
    Play("two workers and an update", [A, B, writes(UPDATE), drains(1)], LATE),
    Play("two workers and a delete", [A, whole_batch("B"), writes(DELETE), drains(1)], LATE),
    Play("two workers and a key change", [A, B, writes(KEY_CHANGE)], LATE),
)


STATE = """
SELECT (SELECT string_agg(d::text, ';' ORDER BY d.id) FROM docs d),
       (SELECT string_agg(t.id || ':' || t.fingerprint, ';' ORDER BY t.id) FROM docs_embedding t),
       (SELECT string_agg(o.key::text, ';' ORDER BY o.id) FROM pgvector_sync.outbox o),
       (SELECT string_agg(concat_ws(':', w.key, w.generation, w.lane, w.attempts, w.superseded, w.lease IS NULL,
                                    w.verdict, w.attempted_fingerprint, w.failed_fingerprint), ';' ORDER BY w.key)
        FROM pgvector_sync.work w)
"""


# -- running them ------------------------------------------------------------------------------------------


class Stage:
    """The sessions, which stay open from one order to the next. A worker stops waiting for a lock after LOCK_TIMEOUT."""

    def __init__(self, arena: Arena, kept: ExitStack) -> None:
        self.arena = arena
        self.workers = {
            "A": kept.enter_context(arena.another()),
            "B": kept.enter_context(arena.another()),
        }
        for steps in self.workers.values():
            steps.checks = False  # the stage checks after every step that commits
        self.session = kept.enter_context(writer(arena))
        self.rested: set[object] = set()
        self.shape = arena.synced.shape()
        self.atomic: dict[str, Callable[[], object]] = {
            "drain": lambda: arena.drain_of_loop(until=soon()),
            "enqueuer": self._enqueue,
        }
        kept.enter_context(stops_in_writes())
        # a worker retries a locked row for a while, but here the lock is held until the worker gives up
        kept.enter_context(pytest.MonkeyPatch.context()).setattr(write, "RETRY_LOCKED_FOR", timedelta(0))

    def _enqueue(self) -> None:
        """Enqueues a page of the source in the bulk lane, as backfill and reconcile do."""
        try:
            with self.arena.runtime.database.transaction() as connection:
                page = rows.page(connection, self.shape, None, limit=10, text_limit=TEXT_LIMIT)
                runs.enqueue(connection, self.shape.pipeline, 0, [key for key, _ in page])
        except LOCK_CONFLICT:
            pass  # in production it is tried again

    def _blocked(self) -> bool:
        query = "SELECT cardinality(pg_blocking_pids(%s)) > 0"
        row = self.arena.observer.execute(query, [self.session.info.backend_pid]).fetchone()
        return bool(row and row[0])

    @contextmanager
    def of(self, play: Play) -> Iterator[Callable[[Sequence[Step]], list[str]]]:
        """A function that takes the steps of one order and returns those that had to wait for a lock."""
        names = {own[0].actor: [step.name for step in own] for own in play.steps}
        actors = {
            name: Actor(name, names[name], worker(steps, late=name == "B"))
            for name, steps in self.workers.items()
            if name in names
        }
        if "application" in names:
            script = application(self.session, names["application"][::2])
            actors["application"] = Actor("application", names["application"], script, self._blocked)
        try:
            yield partial(self._take, actors, play)
        finally:
            for actor in actors.values():
                actor.close()

    def _take(self, actors: dict[str, Actor], play: Play, order: Sequence[Step]) -> list[str]:
        self._set(play)
        waited = []
        for actor in actors.values():
            actor.proceed()
        try:
            for step in order:
                if (actor := actors.get(step.actor)) is None:
                    self.atomic[step.actor]()
                else:
                    if actor.waiting or actor.is_beyond(step.name):
                        continue
                    actor.proceed()
                    if actor.waiting:
                        waited.append(str(step))
                if step.commits:
                    for other in actors.values():
                        if other.waiting:
                            other.observe()
                    self.arena.check()
            self._end(actors.values())
        except BaseException:
            self.session.cancel()
            for actor in actors.values():
                with suppress(Exception):
                    self._end([actor])
            raise
        self._rest(play)
        return waited

    def _rest(self, play: Play) -> None:
        """Runs to rest, once per committed state, since the state decides everything that follows."""
        state = (play.name, self.arena.observer.execute(STATE, prepare=True).fetchone())
        if state not in self.rested:
            self.arena.at_rest()
            self.rested.add(state)

    def _end(self, actors: Iterable[Actor]) -> None:
        """Takes the steps that are left after one has waited or failed, one session after another."""
        while left := [actor for actor in actors if not actor.ended]:
            for actor in left:
                while not (actor.ended or actor.waiting):
                    actor.proceed()
                if actor.waiting:
                    actor.observe()
                self.arena.check()

    def _set(self, play: Play) -> None:
        """Restores the start of a play: every row has the vector of `zero`, and waits in work with its own text."""
        self.arena.reset()
        zero = "[" + ",".join(map(str, vector_of("zero", DIMENSIONS))) + "]"
        fingerprint = hashlib.sha256(self.shape.pipeline.spec.digest + b"zero").hexdigest()
        values = ", ".join(f"({key}, '{body}')" for key, body in play.rows.items())
        self.arena.application.execute(
            f"""
            BEGIN;
            SET LOCAL session_replication_role = replica;
            {"TRUNCATE docs;" if len(play.rows) > 1 else ""} -- so that the rows lie in this order
            INSERT INTO docs (id, body) VALUES {values};
            INSERT INTO docs_embedding SELECT id, 0, NULL, '{zero}', '\\x{fingerprint}', '{MODEL}', now() FROM docs;
            INSERT INTO pgvector_sync.work (pipeline_id, key, lane, waiting_since, visible_at)
            SELECT {self.shape.pipeline.id}, jsonb_build_array(id), 'live', now(), now() FROM docs;
            COMMIT;
            """
        )
