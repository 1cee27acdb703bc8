"""What a build must never do: lose an index of the user, keep other builds from beginning, or fail without a reason."""

from __future__ import annotations

from functools import partial
from typing import Any

import psycopg
import pytest

from pgvector_sync.database import Database
from pgvector_sync.engine.builder import build_all
from pgvector_sync.errors import DatabaseRefuses, Refused
from pgvector_sync.index.requests import cancel_build, request_build
from pgvector_sync.index.session import NAME as SESSION
from pgvector_sync.store import rehearsal
from support.index_builds import (
    NAME,
    carried_out,
    found,
    indexes,
    open_transaction,
    requested,
    under_way,
)
from support.synced import OURS, Synced
from support.waiting import eventually

THEIRS = "CREATE INDEX {name} ON docs_embedding USING hnsw (embedding vector_l2_ops)"


def test_an_index_of_the_user_with_the_preliminary_name_stays(docs: Synced) -> None:
    build = requested(docs).build
    name = f"pgvector_sync_build_{build}"
    docs.run(THEIRS.format(name=name))
    ended = carried_out(docs, build)
    assert (ended.state, ended.attempts) == ("failed", 0)
    assert f"there is {name} already" in str(ended.reason)
    assert indexes(docs) == [(name, True)]


def test_an_index_of_the_user_over_another_expression_is_neither_of_the_same_kind_nor_replaced(
    docs: Synced, server: Database
) -> None:
    docs.run(
        "CREATE INDEX theirs ON docs_embedding USING hnsw "
        "((subvector(embedding, 1, 4)::halfvec(4)) halfvec_cosine_ops)"
    )
    docs.declare(index={"method": "hnsw", "storage": "halfvec"})
    docs.apply()
    assert carried_out(docs, requested(docs, rebuild=True).build).replaces is None
    assert indexes(docs) == [("docs_embedding_halfvec_hnsw", True), ("theirs", True)]


def test_an_index_that_took_the_name_of_the_replaced_one_meanwhile_stays(docs: Synced, server: Database) -> None:
    docs.run(f"CREATE INDEX {NAME} ON docs_embedding USING hnsw (embedding vector_cosine_ops)")
    build = requested(docs, rebuild=True).build
    docs.run(
        f"UPDATE pgvector_sync.index_build SET state = 'swapping', left_over = true, index_name = '{NAME}', "
        f"replaces = '{NAME}'",
        f"DROP INDEX {NAME}",
        THEIRS.format(name=NAME),
        f"CREATE INDEX pgvector_sync_build_{build} ON docs_embedding USING hnsw (embedding vector_cosine_ops)",
    )
    ended = carried_out(docs, build)
    assert (ended.state, ended.index_name) == ("done", f"{NAME}_2")
    assert indexes(docs) == [(NAME, True), (f"{NAME}_2", True)]


def test_an_index_that_is_no_longer_valid_replaces_nothing(docs: Synced) -> None:
    docs.run(f"CREATE INDEX {NAME} ON docs_embedding USING hnsw (embedding vector_cosine_ops)")
    build = requested(docs, rebuild=True).build
    docs.run(
        f"UPDATE pgvector_sync.index_build SET state = 'swapping', left_over = true, index_name = '{NAME}', "
        f"replaces = '{NAME}'",
        f"CREATE INDEX pgvector_sync_build_{build} ON docs_embedding USING hnsw (embedding vector_cosine_ops)",
        f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'pgvector_sync_build_{build}'::regclass",
    )
    ended = carried_out(docs, build)
    assert (ended.state, ended.reason) == ("failed", "the index is no longer valid")
    assert indexes(docs) == [(NAME, True)]


@pytest.mark.parametrize("storage", ["vector", "halfvec", "bit"])
def test_a_target_may_have_any_name(synced: Synced, storage: str) -> None:
    target = 'public."50%% of %s Größe"'
    synced.run("CREATE TABLE docs (id bigint PRIMARY KEY, body text)")
    synced.declare(target=target, index={"method": "hnsw", "storage": storage})
    synced.apply()
    ended = carried_out(synced, requested(synced).build)
    assert (ended.state, ended.reason) == ("done", None)
    again = carried_out(synced, requested(synced, rebuild=True).build)
    assert (again.state, again.index_name, again.replaces) == ("done", ended.index_name, ended.index_name)


def test_a_long_name_that_is_taken_gets_a_number_within_the_limit_of_postgres(synced: Synced) -> None:
    target = f'public."{"ü" * 31}"'
    synced.run("CREATE TABLE docs (id bigint PRIMARY KEY, body text)")
    synced.declare(target=target, index={"method": "hnsw"})
    synced.apply()
    name = "ü" * 29 + "_hnsw"
    synced.run(f'CREATE TABLE "{name}" (id int)')
    ended = carried_out(synced, requested(synced).build)
    assert (ended.state, ended.index_name) == ("done", "ü" * 29 + "_hn_2")


def test_time_limits_of_the_role_do_not_end_a_build(docs: Synced, server: Database) -> None:
    version = docs.database.value("SELECT current_setting('server_version_num')::int")
    settings = ("statement_timeout", "lock_timeout", *(["transaction_timeout"] if version >= 170_000 else []))
    build = requested(docs).build
    with open_transaction(docs) as application:
        docs.run(*(f"ALTER DATABASE {docs.database.name} SET {setting} = '1s'" for setting in settings))
        with under_way(server, build):
            application.execute("SELECT pg_sleep(1.5)")
            application.rollback()
    assert (found(server, build).state, found(server, build).reason) == ("done", None)


def test_a_build_that_cannot_begin_keeps_no_other_pipeline_from_being_built(docs: Synced) -> None:
    docs.declare("other", target="other_embedding", index={"method": "hnsw"})
    docs.apply()
    docs.settle()
    broken = request_build(docs.owner.database, "docs", memory_bytes=1 << 42).build  # more than Postgres can set
    good = request_build(docs.owner.database, "other").build
    build_all(docs.owner.settings)
    ended = found(docs.owner.database, broken)
    assert ended.state == "failed"
    assert "maintenance_work_mem" in str(ended.reason)
    assert found(docs.owner.database, good).state == "done"


def test_why_a_build_is_postponed_is_shown(docs: Synced) -> None:
    build = requested(docs).build
    docs.run("ALTER TABLE docs_embedding RENAME TO renamed")
    build_all(docs.owner.settings)
    assert found(docs.owner.database, build).reason == "docs: the target doesn't exist; pgvector-sync doctor"
    assert found(docs.owner.database, build).state == "waiting"


def test_the_swap_continues_when_the_server_process_ended_while_it_dropped_the_old_index(
    docs: Synced, server: Database
) -> None:
    docs.run(f"CREATE INDEX {NAME} ON docs_embedding USING hnsw (embedding vector_cosine_ops) WITH (m = 4)")
    build = requested(docs, rebuild=True).build
    with docs.database.connect() as reader:
        with open_transaction(docs) as application, under_way(server, build, psycopg.OperationalError):
            reader.execute("BEGIN; LOCK TABLE docs_embedding IN ACCESS SHARE MODE")  # the drop waits for it
            application.rollback()
            eventually(lambda: found(server, build).state == "swapping" and (NAME, False) in indexes(docs))
            docs.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                f"WHERE application_name = '{SESSION}' AND state = 'active'"
            )
        assert indexes(docs) == [(NAME, False), (f"pgvector_sync_build_{build}", True)]
    assert carried_out(docs, build).state == "done"
    assert indexes(docs) == [(NAME, True)]


def test_a_build_whose_request_was_deleted_leaves_no_index(docs: Synced, server: Database) -> None:
    build = requested(docs).build
    with open_transaction(docs) as application, under_way(server, build, Refused):
        docs.run("DELETE FROM pgvector_sync.index_build")
        eventually(lambda: docs.database.value("SELECT count(*) FROM pg_stat_progress_create_index") == 0)
        application.rollback()
    assert indexes(docs) == []


def test_a_role_that_may_not_stop_the_server_process_can_cancel_a_build_nevertheless(
    docs: Synced, server: Database, role: Any
) -> None:
    superuser = docs.database.value("SELECT current_user")
    name = role("canceller", f'GRANT "{superuser}" TO {{role}}', *OURS)
    build = requested(docs).build
    with open_transaction(docs) as application, under_way(server, build), docs.acting_as(name) as runtime:
        assert cancel_build(runtime.database, "docs") == build
        application.rollback()
    assert (found(server, build).state, indexes(docs)) == ("cancelled", [])


def test_a_rehearsal_reads_no_view_in_the_place_of_a_target(docs: Synced) -> None:
    docs.run("ALTER TABLE docs_embedding RENAME TO was", "CREATE VIEW docs_embedding AS SELECT * FROM was")
    with docs.owner.database.connection() as session:
        for read in (rehearsal.create, partial(rehearsal.copy_real, without=[], limit=1)):
            with pytest.raises(DatabaseRefuses, match="is a view now"):
                read(session, docs.shape())
