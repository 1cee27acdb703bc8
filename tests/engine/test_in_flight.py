"""Several batches of `sync` in flight at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest

from pgvector_sync.batch import Outcome, process
from pgvector_sync.embedding.embedder import Embedder
from pgvector_sync.engine import loop as engine_loop
from pgvector_sync.engine import loop as loop_module
from pgvector_sync.engine import pace
from pgvector_sync.engine.loop import Loop
from pgvector_sync.model import Provider
from pgvector_sync.observe.status import settled
from pgvector_sync.runtime import Runtime
from support.looping import running
from support.synced import DOCS, Synced
from support.waiting import eventually, within

BATCH = 10
PATIENCE = 30.0


@dataclass
class Calls:
    """Counts calls, and how many there are at the same time."""

    meet: threading.Barrier | None = None
    """Each call waits here for others."""
    count: int = 0
    most_at_once: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def __call__(self, _: Sequence[str]) -> Iterator[None]:
        with self._lock:
            self.count += 1
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            if self.meet is not None:
                self.meet.wait(PATIENCE)
            yield
        finally:
            with self._lock:
                self._now -= 1


class Gated:
    """An embedder that passes its texts to `before`, then to the real one, within the context that it returns."""

    def __init__(self, inner: Embedder, before: Callable[[Sequence[str]], object]) -> None:
        self._inner, self._before = inner, before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def embed(self, texts: Sequence[str], *arguments: Any, **more: Any) -> Any:
        context = self._before(texts)
        with context if isinstance(context, AbstractContextManager) else nullcontext():
            return self._inner.embed(texts, *arguments, **more)


@contextmanager
def loop_of(synced: Synced, before: Callable[[Sequence[str]], object], *, concurrency: int) -> Iterator[Loop]:
    """A loop with batches of ten rows whose provider calls `before` first."""
    runtime = synced.runtime

    def embedder(provider: Provider) -> Embedder:
        return Gated(runtime.embedder(provider), before)  # type: ignore[return-value]

    settings = runtime.settings.model_copy(
        update={"live_batch_size": BATCH, "bulk_batch_size": BATCH, "poll": pace.FLOWING}
    )
    loop = Loop(Runtime(settings, runtime.database, embedder), concurrency=concurrency)
    yield loop
    loop.finish()


def backfill(synced: Synced, rows: int) -> None:
    synced.run(DOCS, f"INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, {rows}) AS i")
    synced.declare()
    synced.apply()


def run(synced: Synced, loop: Loop) -> bool:
    return loop.run(finished=lambda: settled(synced.runtime.database, None), until=within(PATIENCE))


@pytest.mark.parametrize("concurrency", [2, 3])
def test_as_many_batches_as_asked_for_call_the_provider_at_once(synced: Synced, concurrency: int) -> None:
    backfill(synced, rows=6 * BATCH)
    calls = Calls(threading.Barrier(concurrency))
    with loop_of(synced, calls, concurrency=concurrency) as loop:
        assert run(synced, loop)
    assert calls.most_at_once == concurrency
    synced.exact()
    assert synced.paid() == 6 * BATCH


def test_a_change_is_embedded_while_all_batches_of_a_backfill_wait_for_the_provider(synced: Synced) -> None:
    backfill(synced, rows=4 * BATCH)
    held, released = threading.Semaphore(0), threading.Event()

    def wait_unless_live(texts: Sequence[str]) -> None:
        if "live" not in texts:
            held.release()
            assert released.wait(PATIENCE)

    with loop_of(synced, wait_unless_live, concurrency=2) as loop, running(loop):
        for _ in range(2):
            assert held.acquire(timeout=PATIENCE)
        synced.run("INSERT INTO docs VALUES (0, 'live')")
        eventually(lambda: (0,) in synced.vectors())
        assert set(synced.vectors()) == {(0,)}
        released.set()
        eventually(lambda: settled(synced.runtime.database, None))
    synced.exact()


def test_a_batch_that_ends_makes_room_for_the_next_while_another_still_waits(synced: Synced) -> None:
    backfill(synced, rows=6 * BATCH)
    first, released = threading.Lock(), threading.Event()

    def hold_the_first(_: Sequence[str]) -> None:
        if first.acquire(blocking=False):
            assert released.wait(PATIENCE)

    with loop_of(synced, hold_the_first, concurrency=2) as loop, running(loop):
        eventually(lambda: len(synced.vectors()) == 5 * BATCH)
        released.set()
        eventually(lambda: settled(synced.runtime.database, None))
    synced.exact()


def test_changes_are_embedded_while_a_run_reads_its_page(synced: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    backfill(synced, rows=BATCH)
    begun, released, walk = threading.Event(), threading.Event(), loop_module.carry_out

    def walk_when_released(*arguments: Any, **more: Any) -> bool:
        begun.set()
        assert released.wait(PATIENCE)
        return walk(*arguments, **more)

    monkeypatch.setattr(loop_module, "carry_out", walk_when_released)
    with loop_of(synced, Calls(), concurrency=2) as loop, running(loop):
        assert begun.wait(PATIENCE)
        synced.run("INSERT INTO docs VALUES (0, 'live')")
        eventually(lambda: set(synced.vectors()) == {(0,)})
        released.set()
        eventually(lambda: settled(synced.runtime.database, None))
    synced.exact()


def test_what_ends_a_run_s_walk_ends_the_loop(synced: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    backfill(synced, rows=BATCH)

    def fail(*_: object, **__: object) -> bool:
        raise RuntimeError("a bug")

    monkeypatch.setattr(loop_module, "carry_out", fail)
    with loop_of(synced, Calls(), concurrency=2) as loop, pytest.raises(RuntimeError, match="a bug"):
        run(synced, loop)


def test_what_ends_a_batch_ends_the_loop_and_the_other_batches_are_finished(synced: Synced) -> None:
    backfill(synced, rows=2 * BATCH)
    at_once = threading.Barrier(2)

    def fail_one(_: Sequence[str]) -> None:
        if at_once.wait(PATIENCE) == 0:
            raise RuntimeError("a bug")

    with loop_of(synced, fail_one, concurrency=2) as loop:
        with pytest.raises(RuntimeError, match="a bug"):
            run(synced, loop)
        loop.finish()
        assert len(synced.vectors()) == BATCH


def test_an_outage_of_the_provider_costs_two_calls_per_batch_in_flight(synced: Synced) -> None:
    """A batch that fails tries one of its rows alone, to see whether the others are at fault."""
    backfill(synced, rows=8 * BATCH)
    synced.endpoint.fail("status", status=503)
    calls = Calls()
    with loop_of(synced, calls, concurrency=4) as loop:
        with running(loop):
            eventually(lambda: synced.database.value("SELECT state FROM pgvector_sync.pipeline") != "active")
            eventually(lambda: len(loop.in_flight) == 0)
            assert calls.count <= 2 * 4
        synced.endpoint.heal()
        synced.run("UPDATE pgvector_sync.pipeline SET retry_at = now()")
        assert run(synced, loop)
    synced.exact()


def test_a_batch_that_finds_nothing_is_followed_by_a_pause(
    synced: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    backfill(synced, rows=BATCH)
    Loop(synced.runtime).turn()
    begun = 0

    def counted(*arguments: Any, **more: Any) -> Outcome | None:
        nonlocal begun
        begun += 1
        return process(*arguments, **more)

    monkeypatch.setattr(engine_loop, "process", counted)
    with synced.database.connect() as connection, loop_of(synced, Calls(), concurrency=2) as loop:
        connection.execute("BEGIN")
        connection.execute("SELECT FROM pgvector_sync.work FOR UPDATE")
        loop.run(finished=lambda: False, until=within(1))
        connection.execute("ROLLBACK")
    assert 0 < begun <= 1 / pace.FLOWING.total_seconds()


def of_one_model(synced: Synced, tables: Sequence[str]) -> None:
    """An empty source with a pipeline of its name for each of these tables."""
    for table in tables:
        synced.run(f"CREATE TABLE {table} (id int PRIMARY KEY, body text)")
        synced.declare(table, source=table)
    synced.apply()
    synced.settle()


def add(synced: Synced, table: str, rows: int) -> None:
    """Add rows in one transaction. Their texts begin with the name of the table."""
    synced.run(f"INSERT INTO {table} SELECT i, '{table} ' || i FROM generate_series(1, {rows}) AS i")


@pytest.mark.parametrize("busy", [2, 4])
def test_no_pipeline_takes_each_slot_that_becomes_free(synced: Synced, busy: int) -> None:
    """All of them call the same model, so each may use all slots."""
    tables = [f"source{number}" for number in range(busy + 1)]
    of_one_model(synced, tables)
    held, released = threading.Semaphore(0), threading.Semaphore(0)
    begun: list[str] = []

    def wait(texts: Sequence[str]) -> None:
        begun.append(texts[0].split()[0])
        held.release()
        assert released.acquire(timeout=PATIENCE)

    with loop_of(synced, wait, concurrency=2) as loop, running(loop):
        for table in tables[:-1]:
            add(synced, table, 20 * BATCH)
        for _ in range(2):
            assert held.acquire(timeout=PATIENCE)
        add(synced, tables[-1], 1)
        for _ in range(busy + 4):
            released.release()
            held.acquire(timeout=0.5)
        waited_for = list(begun)
        released.release(20 * BATCH * busy)
    assert tables[-1] in waited_for


def test_live_changes_come_before_the_backlogs_of_other_pipelines(synced: Synced) -> None:
    tables = ["bulk1", "bulk2", "bulk3", "live"]
    of_one_model(synced, tables)
    begun: list[str] = []
    held, released = threading.Semaphore(0), threading.Event()

    def wait(texts: Sequence[str]) -> None:
        begun.append(texts[0].split()[0])
        held.release()
        assert released.wait(PATIENCE)

    for table in tables[:-1]:
        add(synced, table, synced.runtime.settings.burst_rows)
    add(synced, "live", 1)
    with loop_of(synced, wait, concurrency=2) as loop, running(loop):
        for _ in range(3):
            assert held.acquire(timeout=PATIENCE)
        begun_first = list(begun)
        released.set()
    assert "live" in begun_first


def test_a_pipeline_whose_calls_hang_leaves_the_others_a_slot(synced: Synced) -> None:
    of_one_model(synced, ["hangs", "works"])
    released = threading.Event()

    def wait(texts: Sequence[str]) -> None:
        if texts[0].startswith("hangs"):
            assert released.wait(PATIENCE)

    with loop_of(synced, wait, concurrency=2) as loop, running(loop):
        add(synced, "hangs", 10 * BATCH)
        add(synced, "works", 10 * BATCH)
        try:
            eventually(lambda: len(synced.vectors("works")) == 10 * BATCH, 10, what="all its rows are stored")
            assert not synced.vectors("hangs")
        finally:
            released.set()
