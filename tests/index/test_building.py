"""Builds of vector indexes: whole or not at all, whatever ends our process, and without holding up writes."""

from __future__ import annotations

import signal
import threading
from datetime import time
from typing import Any

import psycopg
import pytest

from pgvector_sync.database import Database
from pgvector_sync.declare.apply import remove
from pgvector_sync.errors import Refused
from pgvector_sync.index import building
from pgvector_sync.index.building import advance
from pgvector_sync.index.requests import cancel_build, request_build
from support.index_builds import (
    NAME,
    ROWS,
    carried_out,
    found,
    holder,
    indexes,
    open_transaction,
    requested,
    started,
    under_way,
)
from support.pgbouncer import installed, start_pgbouncer
from support.processes import Processes
from support.synced import Synced, runtime_of
from support.waiting import eventually

# -- what a build does ---------------------------------------------------------------------------------------


def test_an_index_is_built_named_and_described(docs: Synced) -> None:
    build = carried_out(docs, requested(docs).build)
    assert (build.state, build.index_name, build.rows) == ("done", NAME, ROWS)
    assert build.parameters == ("m=16", "ef_construction=64")
    assert (build.bytes or 0) > 0
    assert build.pgvector
    assert build.changes == 0
    assert indexes(docs) == [(NAME, True)]


def test_the_declared_index_is_built(docs: Synced) -> None:
    docs.declare(index={"method": "hnsw", "storage": "halfvec", "m": 8, "ef_construction": 20})
    docs.apply()
    build = carried_out(docs, requested(docs).build)
    assert (build.index_name, build.parameters) == (
        "docs_embedding_halfvec_hnsw",
        ("m=8", "ef_construction=20"),
    )
    assert indexes(docs) == [("docs_embedding_halfvec_hnsw", True)]


def test_a_rebuilt_index_replaces_the_old_one_under_its_name(docs: Synced) -> None:
    docs.run('CREATE INDEX "their %name" ON docs_embedding USING hnsw (embedding vector_cosine_ops) WITH (m = 4)')
    with pytest.raises(Refused, match="their %name has other parameters: m=4"):
        requested(docs)
    build = carried_out(docs, requested(docs, rebuild=True).build)
    assert (build.state, build.index_name, build.replaces) == ("done", "their %name", "their %name")
    assert build.parameters == ("m=16", "ef_construction=64")
    assert indexes(docs) == [("their %name", True)]
    with pytest.raises(Refused, match="there is such an index already") as refused:
        requested(docs)
    assert "--rebuild" in str(refused.value.hint)


def test_a_request_joins_another_one_unless_an_option_would_be_lost(docs: Synced) -> None:
    night, evening = (time(1), time(5)), (time(20), time(22))
    first = requested(docs, window=night)
    both: list[dict[str, Any]] = [{}, {"window": night}]
    for options in both:
        again = requested(docs, **options)
        assert (again.build, again.joined) == (first.build, True)
    lost: list[tuple[dict[str, Any], str]] = [
        ({"window": evening}, "requested before, with another window"),
        ({"memory_bytes": 2**30}, "requested before, with another size of memory"),
    ]
    for options, words in lost:
        with pytest.raises(Refused, match=words) as refused:
            requested(docs, **options)
        assert "pgvector-sync index cancel docs" in str(refused.value.hint)


def test_a_name_that_is_taken_gets_a_number(docs: Synced) -> None:
    docs.run(f"CREATE TABLE {NAME} (id int)", f"CREATE TABLE {NAME}_2 (id int)")
    assert carried_out(docs, requested(docs).build).index_name == f"{NAME}_3"


def test_writes_go_on_while_an_index_is_built(docs: Synced, server: Database) -> None:
    docs.run("DELETE FROM docs_embedding")
    build = requested(docs).build
    with open_transaction(docs) as application, under_way(server, build):
        docs.run("INSERT INTO docs SELECT n, 'text ' || n FROM generate_series(1, 20) n")
        docs.settle()
        docs.exact()
        assert found(server, build).state == "building", "the writes didn't wait for the build"
        application.rollback()
    assert found(server, build).state == "done"
    assert docs.database.value("SELECT reltuples::int FROM pg_class WHERE relname = %s", NAME) == 20


# -- what ends it --------------------------------------------------------------------------------------------


def test_the_server_goes_on_when_our_process_is_killed_and_another_one_completes_it(
    docs: Synced, server: Database, processes: Processes
) -> None:
    with open_transaction(docs):
        process, build = started(docs, processes)
        process.kill()
        assert found(server, build).held
        assert not advance(server, found(server, build)), "the server process still holds it"
    eventually(lambda: not found(server, build).held)
    assert found(server, build).state == "building"
    docs.run("UPDATE pgvector_sync.index_build SET phase = 'loading tuples', done_share = 0.12")
    left = found(server, build)
    assert (left.phase, left.done_share) == (None, None), "what was noted while it was built no longer holds"
    assert indexes(docs) == [(f"pgvector_sync_build_{build}", True)]
    assert carried_out(docs, build).state == "done"
    assert indexes(docs) == [(NAME, True)]
    assert found(server, build).attempts == 1


@pytest.mark.slow
def test_ctrl_c_leaves_the_build_running_and_says_so(docs: Synced, server: Database, processes: Processes) -> None:
    with open_transaction(docs):
        process, build = started(docs, processes)
        process.send(signal.SIGINT)
        assert process.wait() == 130
        assert f"build {build} isn't cancelled: what has begun goes on in the server" in process.printed
        assert "pgvector-sync index cancel docs" in process.printed
        assert "Traceback" not in process.printed
        assert found(server, build).held
    eventually(lambda: not found(server, build).held)
    assert carried_out(docs, build).state == "done"


def test_a_build_whose_server_process_ended_is_repeated_three_times_at_most(
    docs: Synced, server: Database
) -> None:
    build = requested(docs).build
    for attempt in (1, 2, 3):
        docs.run("UPDATE pgvector_sync.index_build SET visible_at = now()")
        with open_transaction(docs):
            with under_way(server, build, psycopg.OperationalError):
                docs.run(f"SELECT pg_terminate_backend({holder(docs)})")
            assert found(server, build).attempts == attempt
            assert indexes(docs) == [(f"pgvector_sync_build_{build}", False)]
        ended = carried_out(docs, build)
        assert indexes(docs) == [], "nothing half-built stays"
        assert "the server process that was building it ended early" in str(ended.reason)
        assert ended.state == ("waiting" if attempt < building.MAX_ATTEMPTS else "failed")
        assert not ended.due or ended.state == "failed", "it isn't repeated at once"


def test_a_cancelled_build_leaves_nothing_and_keeps_the_index_that_it_would_have_replaced(
    docs: Synced, server: Database
) -> None:
    docs.run(f"CREATE INDEX {NAME} ON docs_embedding USING hnsw (embedding vector_cosine_ops)")
    build = requested(docs, rebuild=True).build
    with open_transaction(docs) as application, under_way(server, build):
        assert cancel_build(server, "docs") == build
        application.rollback()
    ended = found(server, build)
    assert (ended.state, ended.left_over, ended.held) == ("cancelled", False, False)
    assert indexes(docs) == [(NAME, True)]
    with pytest.raises(Refused, match="no index of docs is being built"):
        cancel_build(server, "docs")


@pytest.mark.slow
def test_a_build_whose_process_is_dead_can_be_cancelled(
    docs: Synced, server: Database, processes: Processes
) -> None:
    with open_transaction(docs):
        process, build = started(docs, processes)
        process.kill()
        cancel_build(server, "docs")
        eventually(lambda: not found(server, build).held, what="the statement was cancelled in the server")
        assert indexes(docs) == [(f"pgvector_sync_build_{build}", False)]
    assert found(server, build).left_over
    ended = carried_out(docs, build)
    assert (ended.state, ended.left_over, indexes(docs)) == ("cancelled", False, [])


@pytest.mark.parametrize("done", ["nothing", "old index dropped", "renamed"])
def test_the_swap_continues_after_any_of_its_steps(docs: Synced, done: str) -> None:
    docs.run(f"CREATE INDEX {NAME} ON docs_embedding USING hnsw (embedding vector_cosine_ops)")
    build = carried_out(docs, requested(docs, rebuild=True).build).id
    docs.run(
        f"UPDATE pgvector_sync.index_build SET state = 'swapping', left_over = true, ended_at = NULL WHERE id = {build}"
    )
    if done != "renamed":
        docs.run(f"ALTER INDEX {NAME} RENAME TO pgvector_sync_build_{build}")
    if done == "nothing":
        docs.run(f"CREATE INDEX {NAME} ON docs_embedding USING hnsw (embedding vector_cosine_ops) WITH (m = 4)")
    assert carried_out(docs, build).state == "done"
    assert indexes(docs) == [(NAME, True)]
    assert docs.database.value("SELECT reloptions FROM pg_class WHERE relname = %s", NAME) == [
        "m=16", "ef_construction=64",
    ]  # fmt: skip


def test_an_index_that_was_dropped_before_it_had_its_name_fails_the_build(docs: Synced) -> None:
    build = carried_out(docs, requested(docs).build).id
    docs.run(
        f"UPDATE pgvector_sync.index_build SET state = 'swapping', left_over = true, ended_at = NULL WHERE id = {build}",
        f"DROP INDEX {NAME}",
    )
    ended = carried_out(docs, build)
    assert (ended.state, ended.reason) == ("failed", "the index was dropped before it had its name")


@pytest.mark.slow
def test_a_pipeline_is_removed_while_its_index_is_built(
    docs: Synced, server: Database, processes: Processes
) -> None:
    with open_transaction(docs) as application:
        process, _ = started(docs, processes)
        process.kill()
        removing = threading.Thread(
            target=remove, args=(server, "docs"), kwargs={"keep_vectors": True, "say": print}
        )
        removing.start()
        eventually(lambda: docs.database.value("SELECT count(*) FROM pg_stat_progress_create_index") == 0)
        application.rollback()
        removing.join(20)
    assert indexes(docs) == []
    assert docs.database.value("SELECT count(*) FROM pgvector_sync.index_build") == 0


def test_a_value_that_halfvec_cannot_have_fails_the_build_without_quoting_it(docs: Synced) -> None:
    docs.run("UPDATE docs_embedding SET embedding = '[70123,0,0,0,0,0,0,1]' WHERE id = 1")
    docs.declare(index={"method": "hnsw", "storage": "halfvec"})
    docs.apply()
    ended = carried_out(docs, requested(docs).build)
    assert ended.state == "failed"
    assert "beyond the range of halfvec" in str(ended.reason)
    assert "70123" not in str(ended.reason)
    assert (ended.attempts, indexes(docs)) == (1, [])


# -- memory and workers --------------------------------------------------------------------------------------


def test_without_enough_shared_memory_it_is_built_without_parallel_workers(docs: Synced) -> None:
    docs.run(
        f"ALTER DATABASE {docs.database.name} SET min_parallel_table_scan_size = 0",
        "ALTER TABLE docs_embedding SET (parallel_workers = 2)",
    )
    build = requested(docs, memory_bytes=1 << 40).build  # more than any /dev/shm
    ended = carried_out(docs, build)
    assert (ended.state, ended.attempts, ended.workers) == ("done", 2, 0)
    assert docs.database.server.logged("could not resize shared memory segment"), "as the server said"


def test_the_memory_that_was_asked_for_is_that_of_the_session(docs: Synced) -> None:
    assert carried_out(docs, requested(docs, memory_bytes=96 << 20).build).used_memory == 96 << 20


# -- who may build -------------------------------------------------------------------------------------------


def test_a_worker_that_does_not_own_the_target_may_request_and_not_build(docs: Synced) -> None:
    database = docs.runtime.database
    build = request_build(database, "docs").build
    assert not found(database, build).may_build
    assert cancel_build(database, "docs") == build


def test_the_lock_of_a_role_that_could_not_build_keeps_nobody_from_building(
    docs: Synced, role: Any, server: Database
) -> None:
    build = requested(docs).build
    docs.run(f"UPDATE pgvector_sync.index_build SET lock_key = 4711 WHERE id = {build}")
    name = role("stranger", "ALTER ROLE {role} PASSWORD 'stranger'")
    with docs.database.connect(user=name, password="stranger") as stranger:
        stranger.execute("SELECT pg_advisory_lock(4711)")
        assert not found(server, build).held
        assert carried_out(docs, build).state == "done"


@installed
def test_a_pooler_is_refused_with_what_to_set(
    docs: Synced, processes: Processes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    password = docs.database.server.password
    user = docs.database.value("SELECT current_user")
    pooler = start_pgbouncer(processes, docs.database, {user: password}, tmp_path_factory.mktemp("pgbouncer"))
    build = requested(docs).build
    with (
        runtime_of(pooler.url(user), docs.runtime.embedder) as runtime,
        pytest.raises(Refused, match="goes through a pooler") as refused,
    ):
        advance(runtime.database, found(runtime.database, build))
    assert "PGVECTOR_SYNC_BUILD_DATABASE_URL" in str(refused.value.hint)
    assert found(docs.owner.database, build).state == "waiting"
