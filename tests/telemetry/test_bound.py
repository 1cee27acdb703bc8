"""All lines of a batch can be found by its id, in every pool and every thread, those of libraries included."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from pgvector_sync.batch.process import process
from pgvector_sync.model import Lane
from pgvector_sync.telemetry import bound, emit
from pgvector_sync.telemetry.events.dispatch import RelayLost
from support.cluster import Cluster
from support.lines import Line, lines_in, logged
from support.steps import Steps
from support.synced import Synced
from support.waiting import eventually

LIBRARY = logging.getLogger("some.library")


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Line]]:
    with logged(monkeypatch) as lines:
        yield lines


def of(lines: list[Line], event: str) -> list[Line]:
    return [line for line in lines if line["event"] == event]


def names(line: Line) -> dict[str, object]:
    return {name: line.get(name) for name in ("pipeline", "lane", "batch", "run")}


def test_all_lines_of_a_batch_name_its_pipeline_lane_and_lease(docs: Steps, lines: list[Line]) -> None:
    docs.insert(_1="one", _2="two")
    leases: list[str] = []

    def during() -> None:
        leases.append(str(docs.lease()))
        LIBRARY.warning("hello")

    docs.process(during=during)
    expected = {"pipeline": "docs", "lane": "live", "batch": leases[0], "run": None}
    for event in ("hello", "provider_answered", "write"):
        assert [names(line) for line in of(lines, event)] == [expected], event


def test_the_lines_of_requests_sent_at_once_are_those_of_the_batch(docs: Steps, lines: list[Line]) -> None:
    docs.synced.provider["max_inputs"] = 1
    docs.synced.apply()
    docs.insert(_1="one", _2="two", _3="three")
    docs.process()
    [written] = of(lines, "write")
    answered = of(lines, "provider_answered")
    assert len(answered) == 3
    assert {line["batch"] for line in answered} == {written["batch"]}


def test_what_follows_a_batch_has_none_of_its_fields(docs: Steps, lines: list[Line]) -> None:
    docs.insert(_1="one")
    docs.process()
    docs.insert(_2="two")
    docs.process()
    emit(RelayLost())
    first, second = of(lines, "write")
    assert first["batch"] != second["batch"]
    assert set(names(of(lines, "relay_lost")[0]).values()) == {None}


def test_a_batch_that_fails_leaves_none_of_its_fields_behind(docs: Steps, lines: list[Line]) -> None:
    docs.insert(_1="one")

    def during() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        docs.process(during=during)
    emit(RelayLost())
    assert of(lines, "cool_down")[0]["batch"]
    assert set(names(of(lines, "relay_lost")[0]).values()) == {None}


def test_a_batch_of_a_run_names_the_run_and_so_do_the_lines_of_its_pages(
    synced: Synced, lines: list[Line]
) -> None:
    synced.run("CREATE TABLE docs (id bigint PRIMARY KEY, body text)", "INSERT INTO docs VALUES (1, 'one')")
    synced.pipeline()
    run = synced.database.value("SELECT max(id) FROM pgvector_sync.run")
    assert {line["run"] for line in of(lines, "run_page")} == {run}
    [written] = of(lines, "write")
    assert names(written) == {"pipeline": "docs", "lane": "bulk", "batch": written["batch"], "run": run}


def test_what_the_keeper_does_later_is_logged_as_a_part_of_the_batch(docs: Steps, lines: list[Line]) -> None:
    docs.insert(_1="one")
    batch = docs.claim()
    keeper, done = docs.runtime.keeper, []

    def later(_: object) -> None:
        LIBRARY.warning("at last")
        done.append(True)

    with bound(pipeline="docs", **batch.names):
        keeper.do_later(batch.holding.lease, later)
    eventually(lambda: done, what="the keeper has done it")
    assert {line["batch"] for line in of(lines, "at last")} == {str(batch.holding.lease)}
    LIBRARY.warning("outside")
    assert "batch" not in of(lines, "outside")[0]


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_the_batches_of_a_worker_can_be_told_apart(cluster: Cluster, pool: str) -> None:
    cluster.synced.declare(batch_size=5)
    cluster.synced.apply()
    cluster.synced.endpoint.latency = 0.1
    cluster.synced.endpoint.fail(status=400, marker="text 7")
    worker = cluster.worker(pool, concurrency=3, PGVECTOR_SYNC_LOG_FORMAT="json", PGVECTOR_SYNC_LOG_LEVEL="DEBUG")
    cluster.insert(20)
    cluster.gets_done()
    lines = lines_in(worker.printed)
    written = of(lines, "write")
    assert len({line["batch"] for line in written}) == len(written) >= 4
    [parked] = of(lines, "parked")
    [mixed] = [line for line in written if line["parked"]]
    assert parked["batch"] == mixed["batch"]
    called = of(lines, "provider_answered") + of(lines, "provider_call_failed")
    assert {line["batch"] for line in called} == {line["batch"] for line in written}
    failed = of(lines, "provider_call_failed")
    assert {line["batch"] for line in failed} == {mixed["batch"]}
    assert {line["pipeline"] for line in called} == {"docs"}


@pytest.mark.slow
def test_the_batches_of_sync_are_told_apart_as_well(cluster: Cluster) -> None:
    cluster.synced.declare(batch_size=5)
    cluster.synced.apply()
    cluster.insert(20)
    sync = cluster.processes.command("sync", PGVECTOR_SYNC_LOG_FORMAT="json")
    sync.wait_for("syncing until")
    cluster.settles()
    written = of(lines_in(sync.printed), "write")
    assert len({line["batch"] for line in written}) == len(written) >= 4
    assert {(line["pipeline"], line["lane"]) for line in written} == {("docs", "live")}


def test_nothing_is_claimed_under_the_name_of_another_pipeline(docs: Steps, lines: list[Line]) -> None:
    assert process(docs.runtime, "docs", Lane.LIVE) is None
    emit(RelayLost())
    assert "pipeline" not in of(lines, "relay_lost")[0]
