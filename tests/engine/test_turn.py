"""One turn: jobs, drain, lost leases, and what there is to do. Relay, beat's tick and `sync` take the same."""

from __future__ import annotations

from datetime import timedelta

from pgvector_sync.database import Database
from pgvector_sync.engine.jobs import Job
from pgvector_sync.engine.turn import Engine
from pgvector_sync.model import Lane
from pgvector_sync.runtime.keeper import new_lease
from pgvector_sync.settings import Settings
from pgvector_sync.store import runs
from pgvector_sync.store.runs import Kind
from pgvector_sync.telemetry.events.batch import LeasesLost
from pgvector_sync.telemetry.events.capture import OutboxDrained
from support.events import collected
from support.synced import Synced


def engine(synced: Synced, *jobs: Job) -> Engine:
    return Engine(synced.runtime.database, synced.runtime.settings, jobs, drain_for=timedelta(seconds=5))


def test_a_turn_finds_what_it_has_drained(docs: Synced) -> None:
    docs.run("INSERT INTO docs VALUES (2, 'two'), (3, 'three')")
    with collected() as events:
        turn = engine(docs).turn(counted_rows=10)
    assert turn.moved == 2
    assert [(item.pipeline, item.lane, item.rows) for item in turn.due] == [
        ("docs", Lane.LIVE, 2),
        ("docs", Lane.BULK, 0),
    ]
    assert events.of(OutboxDrained) == [OutboxDrained(events=2, rows=2)]


def test_rows_are_counted_up_to_a_limit(docs: Synced) -> None:
    docs.run("INSERT INTO docs VALUES (2, 'two'), (3, 'three')")
    assert engine(docs).turn(counted_rows=1).due[0].rows == 1


def test_what_a_job_starts_is_found_in_the_same_turn(docs: Synced) -> None:
    def start(database: Database, _settings: Settings) -> None:
        with database.transaction() as connection:
            connection.execute(
                "INSERT INTO pgvector_sync.run (pipeline_id, kind) SELECT id, 'reconcile' FROM pgvector_sync.pipeline"
            )

    turn = engine(docs, Job("start", timedelta(hours=1), start)).turn(counted_rows=1)
    assert [(kind, pipeline) for _, kind, pipeline in turn.runs] == [(Kind.RECONCILE, "docs")]


def test_the_run_that_has_waited_longest_comes_first(docs: Synced) -> None:
    """Only some of the reconciliations that are due are rung for, and one that goes on is due again at once."""
    docs.declare("notes")
    docs.apply()
    docs.run(
        "DELETE FROM pgvector_sync.run",
        "INSERT INTO pgvector_sync.run (pipeline_id, kind, visible_at) SELECT id, 'reconcile', now() - "
        "CASE name WHEN 'notes' THEN interval '1 minute' ELSE interval '0' END FROM pgvector_sync.pipeline ORDER BY name",
    )
    assert [pipeline for _, _, pipeline in engine(docs).turn(counted_rows=1).runs] == ["notes", "docs"]


def test_a_run_whose_worker_was_killed_comes_after_those_that_wait_already(docs: Synced) -> None:
    docs.declare("notes")
    docs.apply()
    docs.run(
        "DELETE FROM pgvector_sync.run",
        "INSERT INTO pgvector_sync.run (pipeline_id, kind) SELECT id, 'reconcile' FROM pgvector_sync.pipeline ORDER BY name",
    )
    assert [pipeline for _, _, pipeline in engine(docs).turn(counted_rows=1).runs] == ["docs", "notes"]
    with docs.runtime.database.transaction() as connection:
        run_id = runs.due_runs(connection)[0][0]
        assert runs.claim(connection, run_id, new_lease(docs.runtime.settings))
    docs.run("UPDATE pgvector_sync.lease SET lost_at = now()")
    assert [pipeline for _, _, pipeline in engine(docs).turn(counted_rows=1).runs] == ["notes", "docs"]


def test_reconciliations_that_workers_carry_out_are_counted_if_further_ones_are_due(docs: Synced) -> None:
    for name in ("due", "lost", "carried_out"):
        docs.declare(name)
    docs.apply()
    docs.run(
        "DELETE FROM pgvector_sync.run",
        "INSERT INTO pgvector_sync.run (pipeline_id, kind, lease) SELECT id, "
        "CASE name WHEN 'docs' THEN 'reembed' ELSE 'reconcile' END, CASE name WHEN 'due' THEN NULL ELSE gen_random_uuid() END "
        "FROM pgvector_sync.pipeline",
        "INSERT INTO pgvector_sync.lease (id, pipeline_id, lane, holder, expires_at, ends_at, lost_at) "
        "SELECT r.lease, p.id, r.kind, 'worker', now() + interval '1 hour', now() + interval '1 hour', "
        "CASE p.name WHEN 'lost' THEN now() END "
        "FROM pgvector_sync.run r JOIN pgvector_sync.pipeline p ON p.id = r.pipeline_id WHERE r.lease IS NOT NULL",
    )
    turn = engine(docs).turn(counted_rows=1)
    assert sorted(pipeline for _, _, pipeline in turn.runs) == ["due", "lost"]
    assert turn.reconciling == 1


def test_leases_that_no_process_renews_are_lost_and_their_rows_due(docs: Synced) -> None:
    docs.run("INSERT INTO docs VALUES (2, 'two')")
    assert engine(docs).turn(counted_rows=1).moved == 1
    docs.run(
        "INSERT INTO pgvector_sync.lease (id, pipeline_id, lane, holder, expires_at, ends_at, suspected_at) "
        "SELECT gen_random_uuid(), id, 'live', 'dead', now() - interval '1 hour', now() + interval '1 hour', "
        "now() - interval '1 hour' FROM pgvector_sync.pipeline",
        "UPDATE pgvector_sync.work SET lease = (SELECT id FROM pgvector_sync.lease)",
    )
    with collected() as events:
        turn = engine(docs).turn(counted_rows=1)
    assert events.of(LeasesLost) == [LeasesLost(leases=1)]
    assert turn.due[0].rows == 1
