"""A process dies at each boundary of the protocol in turn, while another one continues."""

from __future__ import annotations

import hashlib
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psutil
import pytest

import pgvector_sync
from pgvector_sync.batch.bisection import PROBE_TEXT
from pgvector_sync.failpoint import Failpoint
from pgvector_sync.model.request import Reconcile
from pgvector_sync.runs.requests import request_reconcile
from pgvector_sync.runtime.bootstrap import Embedders
from support.cluster import Cluster, Points, children, kill_children, open_cluster
from support.endpoint import Endpoint
from support.processes import Process, Processes
from support.servers import Database, Postgres, Valkey, new_database
from support.waiting import eventually

SHORT = {
    "PGVECTOR_SYNC_LEASE": "2",
    "PGVECTOR_SYNC_DEADLINE": "1.5",
    "PGVECTOR_SYNC_BACKOFF_FIRST": "0.2",
    "PGVECTOR_SYNC_LOG_LEVEL": "DEBUG",
}


@dataclass
class Pair:
    """Two workers on one database. If a process of one has died, the other continues."""

    cluster: Cluster
    points: Points
    workers: list[Process] = field(default_factory=list)
    keys: Iterator[int] = field(default_factory=lambda: count(1, 1_000))
    """The first key of the next test."""

    def complete(self) -> None:
        """Restart the workers that have died in an earlier test."""
        self.workers = [worker for worker in self.workers if worker.exit_code is None]
        while len(self.workers) < 2:
            self.workers.append(self.cluster.worker(concurrency=1, **SHORT, **self.points.env))

    def running(self) -> set[int]:
        """The pids of the workers and their children."""
        return {p.pid for w in self.workers for p in [psutil.Process(w.pid), *children(w)] if w.exit_code is None}

    def run(self, statement: str) -> None:
        self.cluster.synced.run(statement)


@pytest.fixture(scope="module")
def everything(
    postgres: Postgres,
    template: Database,
    valkey: Valkey,
    shared: tuple[Endpoint, Embedders],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("failpoints")
    processes = Processes(folder, {})
    with new_database(postgres, template=template.name) as database, pytest.MonkeyPatch.context() as patch:
        try:
            with open_cluster(database, valkey, processes, shared, patch) as cluster:
                yield Pair(cluster, Points(folder))
        finally:
            processes.end()


@pytest.fixture
def pair(everything: Pair) -> Pair:
    everything.complete()
    return everything


# -- what makes the workers come by a point ----------------------------------------------------------------


def change(pair: Pair) -> None:
    """Rows of every kind in one transaction: new, changed, moved to another key, deleted."""
    first = next(pair.keys)
    pair.run(f"INSERT INTO docs SELECT i, 'text ' || i FROM generate_series({first}, {first + 39}) AS i")
    pair.run(
        f"WITH gone AS (DELETE FROM docs WHERE id = {first}), "
        f"moved AS (UPDATE docs SET id = id + 100 WHERE id = {first + 1}) "
        f"UPDATE docs SET body = body || ' changed' WHERE id BETWEEN {first + 2} AND {first + 9}"
    )


def truncate(pair: Pair) -> None:
    change(pair)
    eventually(lambda: len(pair.cluster.synced.vectors()) > 0, 20)
    pair.run("TRUNCATE docs")
    change(pair)


def backfill(pair: Pair) -> None:
    pair.run("ALTER TABLE docs DISABLE TRIGGER USER")
    change(pair)
    pair.run("ALTER TABLE docs ENABLE TRIGGER USER")
    pair.cluster.synced.declare(where=f"id > -{next(pair.keys)}")
    pair.cluster.synced.apply()


def reconcile(pair: Pair) -> None:
    """A comparison in the middle of changes, which has nothing to find."""
    change(pair)
    request_reconcile(pair.cluster.synced.runtime.database, "docs", Reconcile(deep=True, page_rows=5))


def refuse_one(pair: Pair) -> None:
    """One text that the endpoint refuses, so that its row becomes a dead letter."""
    pair.cluster.synced.endpoint.fail("status", status=400, marker="refused")
    change(pair)
    pair.run("UPDATE docs SET body = 'refused' WHERE id = (SELECT max(id) FROM docs)")


def ask_for_a_pause(pair: Pair) -> None:
    pair.cluster.synced.endpoint.fail("status", status=429, headers={"Retry-After": "1"}, times=1)
    change(pair)


def be_late(pair: Pair) -> None:
    """A search for refused texts that the deadline ends: what it has not reached is released."""
    endpoint = pair.cluster.synced.endpoint
    endpoint.latency = 0.4
    endpoint.fail("status", status=400, marker="refused")
    change(pair)
    pair.run("UPDATE docs SET body = 'refused' WHERE id IN (SELECT id FROM docs ORDER BY id DESC LIMIT 2)")


def tick(pair: Pair) -> None:
    """A beat, whose first tick is taken by one of the workers."""
    beat = pair.cluster.processes.command("beat")
    change(pair)
    pair.points.wait_for(Failpoint.TICK_TAKEN, 30)
    assert beat.terminate() == 0


LEADS_TO: dict[Failpoint, Callable[[Pair], None]] = {
    Failpoint.DRAIN_LOCKED: change,
    Failpoint.DRAIN_MOVED: change,
    Failpoint.DRAIN_COMMITTED: change,
    Failpoint.SWEEP_REMOVED: truncate,
    Failpoint.SWEEP_WALKED: truncate,
    Failpoint.RELAY_DRAINED: change,
    Failpoint.TICK_TAKEN: tick,
    Failpoint.TASK_STARTED: change,
    Failpoint.TASK_ANSWERED: change,
    Failpoint.CLAIM_TAKEN: change,
    Failpoint.CLAIM_COMMITTED: change,
    Failpoint.READ_DONE: change,
    Failpoint.EMBED_CALLING: change,
    Failpoint.EMBED_ANSWERED: change,
    Failpoint.WRITE_HELD: change,
    Failpoint.WRITE_LOCKED: change,
    Failpoint.WRITE_LOOKED: change,
    Failpoint.WRITE_WRITTEN: change,
    Failpoint.WRITE_ACKED: change,
    Failpoint.WRITE_COMMITTED: change,
    Failpoint.FAILURES_SETTLED: refuse_one,
    Failpoint.FAILURES_COMMITTED: refuse_one,
    Failpoint.PROVIDER_FAILED: ask_for_a_pause,
    Failpoint.RELEASING: be_late,
    Failpoint.RUN_CLAIMED: backfill,
    Failpoint.BACKFILL_ENQUEUED: backfill,
    Failpoint.BACKFILL_COMMITTED: backfill,
    Failpoint.RECONCILE_COMPARED: reconcile,
    Failpoint.RECONCILE_COMMITTED: reconcile,
}


def test_every_point_is_in_the_code_once_and_is_tried_here() -> None:
    package = Path(pgvector_sync.__file__).parent
    reached = [
        found
        for module in package.rglob("*.py")
        for found in re.findall(r"\breach\((?:Failpoint\.)?(\w+)\)", module.read_text("utf-8"))
    ]
    assert sorted(reached) == sorted(point.name for point in Failpoint)
    assert set(LEADS_TO) == set(Failpoint)


@pytest.mark.slow
@pytest.mark.parametrize("point", Failpoint)
def test_a_process_killed_there_loses_nothing_and_the_others_continue(pair: Pair, point: Failpoint) -> None:
    synced = pair.cluster.synced
    before, paid, bought = pair.running(), synced.paid(), len(synced.endpoint.calls.bought)
    pair.points.arm(point)
    LEADS_TO[point](pair)
    pair.points.wait_for(point)
    eventually(lambda: before - pair.running(), what="a process is gone")
    synced.endpoint.latency = 0.0
    most = pair.cluster.gets_done()
    synced.endpoint.heal()
    if LEADS_TO[point] in (refuse_one, be_late):
        assert {error for _, error in synced.dead()} == {"input_rejected"}
        pair.run("UPDATE docs SET body = 'harmless ' || id WHERE body = 'refused'")
    pair.cluster.settles()
    assert synced.dead() == []
    assert most <= 2, "one death is one attempt"
    # the killed batch's texts, changed ones and pieces of a refused batch are sent again; nothing goes on and on
    assert synced.paid() - paid <= 40 * 8
    counts = Counter(synced.endpoint.calls.bought[bought:])
    counts.pop(hashlib.sha256(PROBE_TEXT.encode()).hexdigest(), None)
    assert max(counts.values(), default=0) <= synced.runtime.settings.attempts, "no content is bought in a loop"


@pytest.mark.slow
@pytest.mark.parametrize("point", [Failpoint.CLAIM_COMMITTED, Failpoint.EMBED_ANSWERED, Failpoint.WRITE_ACKED])
def test_a_worker_of_threads_dies_as_a_whole_and_another_continues(
    cluster: Cluster, tmp_path: Path, point: Failpoint
) -> None:
    points = Points(tmp_path)
    first = cluster.worker("threads", **SHORT, **points.env)
    points.arm(point)
    cluster.insert(40)
    assert first.wait() == -signal.SIGKILL
    cluster.synced.covered()
    cluster.worker("threads", **SHORT)
    assert cluster.settles() <= 2


@pytest.mark.parametrize(
    "point",
    [
        Failpoint.WRITE_WRITTEN,
        *[
            pytest.param(point, marks=pytest.mark.slow)
            for point in (Failpoint.DRAIN_MOVED, Failpoint.CLAIM_TAKEN, Failpoint.READ_DONE, Failpoint.WRITE_ACKED)
        ],
    ],
)
def test_a_sync_that_is_killed_is_finished_by_the_next(cluster: Cluster, tmp_path: Path, point: Failpoint) -> None:
    points = Points(tmp_path)
    cluster.insert(40)
    points.arm(point)
    assert cluster.processes.command("sync", "--once", **SHORT, **points.env).wait() == -signal.SIGKILL
    cluster.synced.covered()
    again = cluster.processes.command("sync", "--once", "--timeout", "20", **SHORT, **points.env)
    assert again.wait() == 0
    cluster.settles(0)
    assert len(cluster.synced.vectors()) == 40


@pytest.mark.slow
def test_a_row_on_which_the_worker_always_dies_is_parked_alone_and_all_others_are_embedded(
    cluster: Cluster,
) -> None:
    """The endpoint simulates a text that kills a process, by running out of memory for example: it kills the
    caller.
    """
    deadly, endpoint = "row 23 is deadly", cluster.synced.endpoint
    digest = hashlib.sha256(deadly.encode()).hexdigest()
    endpoint.fail("hang", seconds=60, marker="deadly")
    # a call may last a third of the deadline: long enough for this test to kill whoever makes it
    patient = {**SHORT, "PGVECTOR_SYNC_LEASE": "5", "PGVECTOR_SYNC_DEADLINE": "4.5"}
    worker = cluster.worker(concurrency=1, **patient)
    cluster.insert(40)
    cluster.synced.run(f"UPDATE docs SET body = '{deadly}' WHERE id = 23")
    deaths = 0
    while not cluster.synced.dead():
        cluster.synced.covered()
        if endpoint.calls.sha256.count(digest) > deaths:
            deaths += 1
            kill_children(worker)
    assert cluster.synced.dead() == [([23], "worker_crashed")]
    assert deaths == 5, "as many attempts as the settings allow"
    cluster.gets_done()
    assert set(cluster.synced.texts()) - set(cluster.synced.vectors()) == {(23,)}
    cluster.synced.run("UPDATE docs SET body = 'harmless' WHERE id = 23")
    cluster.settles()
    assert worker.exit_code is None
