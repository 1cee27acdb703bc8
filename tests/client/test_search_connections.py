"""A search with an application's own role, connection or pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import namedtuple_row
from psycopg_pool import ConnectionPool

from pgvector_sync import Refused, Settings, Sync
from support.client import sync_as
from support.roles import APPLICATION, WORKER
from support.synced import OURS, Synced

SETTINGS = "SELECT name, setting FROM pg_settings ORDER BY name"


@pytest.fixture
def docs(applied: None, synced: Synced) -> Synced:
    synced.filled("INSERT INTO docs SELECT n, 'text ' || n, n % 3 FROM generate_series(1, 6) n")
    synced.run(f"GRANT SELECT ON docs, docs_embedding TO {APPLICATION}")
    return synced


@pytest.fixture
def sync(docs: Synced) -> Iterator[Sync]:
    with sync_as(docs.database, APPLICATION) as sync:
        yield sync


def found(sync: Sync, **how: Any) -> list[Any]:
    return sorted(hit.key[0] for hit in sync.search("docs", "text 1", 10, **how))


# -- the role ------------------------------------------------------------------------------------------------


def test_a_role_searches_with_grants_on_two_tables_and_the_declarations(
    docs: Synced, role: Callable[..., str]
) -> None:
    searcher = role(
        "searcher",
        "GRANT USAGE ON SCHEMA pgvector_sync TO {role}",
        "GRANT SELECT ON pgvector_sync.applied_migration, pgvector_sync.provider, pgvector_sync.source, pgvector_sync.pipeline, pgvector_sync.learned TO {role}",
        "GRANT SELECT (id, body) ON docs TO {role}",
        "GRANT SELECT ON docs_embedding TO {role}",
    )
    with sync_as(docs.database, searcher) as sync:
        assert found(sync, where="body <> 'text 2'") == [1, 3, 4, 5, 6]
        with pytest.raises(Refused, match="permission denied for table docs"):
            sync.search("docs", "text 1", where="note = '1'")


def test_a_missing_grant_is_named_with_the_statement_that_adds_it(docs: Synced, role: Callable[..., str]) -> None:
    searcher = role("searcher")
    with (
        sync_as(docs.database, searcher) as sync,
        pytest.raises(Refused, match="may not use the schema pgvector_sync"),
    ):
        sync.embed_query("docs", "text 1")
    docs.run(
        f"GRANT USAGE ON SCHEMA pgvector_sync TO {searcher}",
        f"GRANT SELECT ON pgvector_sync.applied_migration TO {searcher}",
    )
    with sync_as(docs.database, searcher) as sync:
        with pytest.raises(Refused, match="permission denied for table") as refused:
            sync.embed_query("docs", "text 1")
        grant = str(refused.value.hint).partition(" -- ")[0].replace("…", searcher)
        docs.run(*grant.split("; "))
        query = sync.embed_query("docs", "text 1")
        with pytest.raises(Refused, match="permission denied for table") as refused:
            sync.search("docs", query)
        docs.run(str(refused.value.hint).partition(";")[0].replace("…", searcher))
        assert len(sync.search("docs", query)) == 5


def test_row_level_security_applies_to_a_search(docs: Synced, sync: Sync) -> None:
    docs.run(
        "ALTER TABLE docs ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY own ON docs TO {APPLICATION} USING (note = current_setting('app.tenant', true))",
    )
    assert found(sync) == []
    with psycopg.connect(docs.database.url_as(APPLICATION)) as connection:
        connection.execute("SELECT set_config('app.tenant', '1', true)")
        assert found(sync, connection=connection) == [1, 4]
        assert found(sync, connection=connection, where="id > 1 OR true") == [1, 4]
    # a policy may run code of the source's owner, with the rights of the role that searches
    docs.run("CREATE POLICY code ON docs USING (note <> 'x')")
    with (
        sync_as(docs.database, WORKER) as worker,
        pytest.raises(Refused, match="would be affected by row-level security"),
    ):
        worker.search("docs", "text 1")


# -- a connection --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_search_can_take_part_in_the_applications_transaction(
    docs: Synced, sync: Sync, autocommit: bool
) -> None:
    query = sync.embed_query("docs", "text 1")
    with docs.database.connect() as connection:
        connection.autocommit = autocommit
        with connection.transaction():
            connection.execute("DELETE FROM docs WHERE id = 2")
            ids = [hit.key[0] for hit in sync.search("docs", query, 10, connection=connection)]
            assert sorted(ids) == [1, 3, 4, 5, 6]
            connection.execute("DELETE FROM docs WHERE id = 3")  # not read-only after the search
            raise psycopg.Rollback
    assert found(sync) == [1, 2, 3, 4, 5, 6]


def test_a_handed_in_connection_is_left_as_it_was(docs: Synced, sync: Sync) -> None:
    with docs.database.connect(row_factory=namedtuple_row, cursor_factory=psycopg.ClientCursor) as connection:
        with connection.transaction():
            connection.execute("SET LOCAL search_path = public; SET LOCAL hnsw.ef_search = 50")
            connection.execute("SELECT '[1]'::vector")
            before = connection.execute(SETTINGS).fetchall()
            for _ in range(7):  # psycopg prepares what it executes for the sixth time
                sync.search(
                    "docs", "text 1", 2, where="id > %(least)s", params={"least": 0}, connection=connection
                )
            assert connection.execute(SETTINGS).fetchall() == before
            assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
            assert connection.execute("SELECT embedding FROM docs_embedding").fetchall()[0].embedding[0] == "["
        sync.search("docs", "text 1", connection=connection)
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        with pytest.raises(Refused, match="the condition is not valid"), connection.transaction():
            sync.search("docs", "text 1", where="true; DELETE FROM docs", connection=connection)
        with connection.transaction():
            with pytest.raises(Refused, match="the condition fails"):
                sync.search("docs", "text 1", where="body::int > 0", connection=connection)
            connection.execute("SELECT 1")  # the application's transaction hasn't failed
    assert docs.database.value("SELECT count(*) FROM docs") == 6


def test_the_handed_in_connections_role_searches(docs: Synced, sync: Sync, role: Callable[..., str]) -> None:
    with (
        psycopg.connect(docs.database.url_as(role("outsider", *OURS[:2]))) as connection,
        pytest.raises(Refused, match="permission denied for table"),
    ):
        sync.search("docs", "text 1", connection=connection)


# -- a pool --------------------------------------------------------------------------------------------------


def test_a_handed_in_pool_is_the_only_source_of_connections(docs: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    url = f"{docs.database.url_as(APPLICATION)}&application_name=shop"
    ours = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pgvector-sync'"
    docs.runtime.database.close()
    docs.owner.database.close()
    with ConnectionPool(url, min_size=1, max_size=2, open=True) as pool:
        with Sync(pool=pool, settings=Settings(_env_file=None)) as sync:
            assert found(sync, where="id > 2") == [3, 4, 5, 6]
            assert len(sync.embed_query("docs", "text 2").vector) == 8
            assert docs.database.value(ours) == 0
        with pool.connection() as connection:  # closing the Sync leaves it open
            assert connection.execute("SELECT current_setting('search_path')").fetchone() == ('"$user", public',)
