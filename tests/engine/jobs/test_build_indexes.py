"""Declared indexes are built once the backfill is complete, within their window, by a process that may build."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pgvector_sync.engine.builder import BUILDER
from pgvector_sync.engine.jobs.build_indexes import JOB
from pgvector_sync.index.requests import cancel_build
from pgvector_sync.index.session import NAME as SESSION
from pgvector_sync.observe.index_builds import IndexBuild, list_builds
from pgvector_sync.observe.indexes import index_state
from pgvector_sync.observe.level import Level
from pgvector_sync.runtime import Runtime
from pgvector_sync.telemetry.events.index import IndexBuildRequested
from support.beginnings import begins_with
from support.endpoint import ENVIRONMENT
from support.events import Collected
from support.jobs import run_due
from support.processes import Processes
from support.synced import DOCS, Synced
from support.waiting import eventually

NAME = "docs_embedding_hnsw"
INDEXES = (
    "SELECT c.relname, c.reloptions FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_am a ON a.oid = c.relam "
    "WHERE x.indrelid = 'docs_embedding'::regclass AND a.amname = 'hnsw' AND x.indisvalid ORDER BY 1"
)


def twenty_rows(synced: Synced) -> None:
    """Twenty rows with their vectors, and no index."""
    synced.run(DOCS, "INSERT INTO docs SELECT n, 'text ' || n FROM generate_series(1, 20) n")
    synced.pipeline()


beginning, docs = begins_with(twenty_rows)


def declare(docs: Synced, **index: Any) -> None:
    docs.declare(index={"method": "hnsw", **index})
    docs.apply()


def looked(docs: Synced, runtime: Runtime | None = None) -> Collected:
    """Runs the job in a process of the owner, and waits for its builder."""
    events = run_due(runtime or docs.owner, JOB)
    assert BUILDER.join(30)
    return events


def indexes(docs: Synced) -> list[tuple[str, list[str]]]:
    return docs.database.execute(INDEXES)


def builds(docs: Synced) -> list[IndexBuild]:
    return list_builds(docs.owner.database, "docs", limit=10)


def times(begin: timedelta, end: timedelta) -> str:
    """A window around the present, in UTC."""
    now = datetime.now(UTC)
    return f"{now + begin:%H:%M}-{now + end:%H:%M}"


def test_a_declared_index_is_built_once(docs: Synced) -> None:
    declare(docs)
    events = looked(docs)
    [build] = builds(docs)
    assert events.of(IndexBuildRequested) == [IndexBuildRequested(pipeline="docs", build=build.id)]
    assert (build.state, build.declared, build.rows) == ("done", True, 20)
    assert indexes(docs) == [(NAME, ["m=16", "ef_construction=64"])]
    looked(docs)
    assert len(builds(docs)) == 1


def test_nothing_is_built_while_the_backfill_runs(synced: Synced) -> None:
    synced.run(DOCS, "INSERT INTO docs SELECT n, 'text ' || n FROM generate_series(1, 20) n")
    declare(synced)
    looked(synced)
    assert builds(synced) == []
    synced.settle()
    looked(synced)
    assert indexes(synced) == [(NAME, ["m=16", "ef_construction=64"])]


def test_a_build_waits_for_its_window(docs: Synced) -> None:
    hour = timedelta(hours=1)
    declare(docs, window=times(2 * hour, 3 * hour))
    looked(docs)
    [build] = builds(docs)
    assert build.state == "waiting"
    assert "it begins between" in str(build.reason)
    docs.run("UPDATE pgvector_sync.index_build SET window_begin = NULL, window_end = NULL")
    looked(docs)
    assert builds(docs)[0].state == "done"


def test_changed_parameters_replace_the_index_that_was_built_and_none_of_the_users(docs: Synced) -> None:
    declare(docs)
    looked(docs)
    declare(docs, m=8)
    looked(docs)
    assert indexes(docs) == [(NAME, ["m=8", "ef_construction=64"])]
    docs.run(
        f"DROP INDEX {NAME}", "CREATE INDEX theirs ON docs_embedding USING hnsw (embedding vector_cosine_ops)"
    )
    declare(docs, m=24)
    looked(docs)
    assert indexes(docs) == [("theirs", None)]


def test_a_cancelled_build_isnt_requested_again_before_the_declaration_changes(docs: Synced) -> None:
    declare(docs, window=times(timedelta(hours=2), timedelta(hours=3)))
    looked(docs)
    cancel_build(docs.owner.database, "docs")
    looked(docs)
    assert [build.state for build in builds(docs)] == ["cancelled"]
    declare(docs, m=8)
    looked(docs)
    assert [build.state for build in builds(docs)] == ["done", "cancelled"]


def test_a_worker_that_may_not_build_says_who_may(docs: Synced) -> None:
    declare(docs)
    looked(docs, docs.runtime)
    [build] = builds(docs)
    assert build.state == "waiting"
    assert "only the owner of public.docs_embedding can build it" in str(build.reason)
    looked(docs)
    assert (builds(docs)[0].state, builds(docs)[0].reason) == ("done", None)


def test_a_worker_builds_through_the_connection_for_builds(docs: Synced) -> None:
    declare(docs)
    settings = docs.runtime.settings.model_copy(update={"build_database_url": docs.owner.settings.database_url})
    run_due(docs.runtime, JOB, settings=settings)
    assert BUILDER.join(30)
    assert builds(docs)[0].state == "done"


def test_ivfflat_waits_until_there_are_enough_vectors(docs: Synced) -> None:
    docs.declare(index={"method": "ivfflat"})
    docs.apply()
    looked(docs)
    assert builds(docs) == []


def test_a_failed_build_is_shown_by_index_status_until_one_succeeds(docs: Synced) -> None:
    declare(docs)
    looked(docs, docs.runtime)
    docs.run('UPDATE pgvector_sync.index_build SET definition = \'{"method": "hnsw", "m": 100}\'')
    looked(docs)
    [target] = index_state(docs.owner.database, "docs")
    assert builds(docs)[0].state == "failed"
    assert target.findings[0].seen == (
        "the last build of an index failed: ef_construction must be greater than or equal to 2 * m (22023)"
    )
    assert target.findings[0].level is Level.WARNING
    assert target.findings[0].advice == "pgvector-sync index build docs --wait"
    declare(docs, m=8)
    looked(docs)
    [target] = index_state(docs.owner.database, "docs")
    assert [finding.level for finding in target.findings] == [Level.OK]


def test_a_pipeline_that_cannot_be_looked_at_keeps_no_other_one_from_its_index(docs: Synced) -> None:
    declare(docs)
    docs.declare("other", target="other_embedding", index={"method": "hnsw"})
    docs.apply()
    docs.settle()
    docs.run(
        "ALTER TABLE docs_embedding RENAME TO was_embedding",
        "CREATE TABLE public.harmed (id int)",
        "GRANT ALL ON public.harmed TO PUBLIC",
        "CREATE FUNCTION public.harm() RETURNS bigint LANGUAGE sql AS 'INSERT INTO public.harmed VALUES (1) RETURNING 1'",
        "CREATE VIEW docs_embedding AS SELECT id FROM was_embedding WHERE harm() = 1",
        "GRANT ALL ON docs_embedding TO PUBLIC",
    )
    looked(docs)
    assert docs.database.value("SELECT count(*) FROM harmed") == 0, "no code of the view ran with our rights"
    assert [build.state for build in list_builds(docs.owner.database, "other", limit=10)] == ["done"]
    assert builds(docs) == []


@pytest.mark.slow
def test_sync_goes_on_during_a_build_and_ends_at_once_while_the_server_carries_on(
    docs: Synced, processes: Processes
) -> None:
    declare(docs)
    with docs.database.connect() as application:
        application.execute("BEGIN; LOCK TABLE docs_embedding IN ROW EXCLUSIVE MODE")
        docs.run("UPDATE pgvector_sync.tick SET visible_at = now()")
        process = processes.command("sync", DATABASE_URL=docs.database.url, **ENVIRONMENT)
        under_way = "SELECT count(*) FROM pg_stat_progress_create_index"
        eventually(lambda: docs.database.value(under_way) == 1, 60)
        docs.run("INSERT INTO docs VALUES (21, 'text 21')")
        eventually(lambda: docs.database.value("SELECT count(*) FROM docs_embedding") == 21, 20)
        process.send(signal.SIGTERM)
        assert process.wait() == 130
        assert "Traceback" not in process.printed
        assert docs.database.value(under_way) == 1
        application.execute("ROLLBACK")
    eventually(lambda: not list_held(docs))
    looked(docs)
    assert [(build.state, build.attempts) for build in builds(docs)] == [("done", 1)]


def list_held(docs: Synced) -> list[Any]:
    sessions = "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()"
    return docs.database.execute(sessions, SESSION)
