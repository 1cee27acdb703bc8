"""Statements that stay prepared, on direct connections only."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from pgvector_sync.database import LOCK_CONFLICT, Connection, Database
from pgvector_sync.database.prepared import StaleStatementError
from support.pgbouncer import installed, start_pgbouncer
from support.processes import Processes
from support.steps import Steps
from support.synced import Synced

ASKED = sql.SQL("SELECT 'asked for'::text AS words")
NOT_ASKED = sql.SQL("SELECT 'not asked for'::text AS words")


def prepared(connection: Connection) -> list[str]:
    rows = connection.execute("SELECT statement FROM pg_prepared_statements ORDER BY statement")
    return [row["statement"] for row in rows]


def test_a_statement_stays_prepared_on_request_and_no_other_does(synced: Synced) -> None:
    with synced.runtime.database.connection() as connection:
        connection.execute("DEALLOCATE ALL")
        for _ in range(20):
            connection.execute(NOT_ASKED)
        connection.execute(ASKED, prepare=True)
        assert prepared(connection) == [ASKED.as_string()]


def test_no_statement_with_an_expression_of_the_pipeline_stays_prepared(docs: Steps) -> None:
    docs.synced.declare(where="body <> 'never this'")
    docs.synced.apply()
    docs.insert(_1="one", _2="two")
    docs.synced.sync()
    with docs.synced.runtime.database.connection() as connection:
        texts = prepared(connection)
    assert any("INSERT INTO" in text and "docs_embedding" in text for text in texts)
    assert not any("never this" in text for text in texts)


@installed
def test_none_stays_prepared_through_a_pooler(synced: Synced, processes: Processes, tmp_path: Path) -> None:
    user, password = "pooled", "secret"
    synced.database.execute(f"CREATE ROLE {user} LOGIN SUPERUSER PASSWORD '{password}'")
    try:
        pooler = start_pgbouncer(processes, synced.database, {user: password}, tmp_path)
        lock_timeout = synced.runtime.settings.lock_timeout
        with Database(pooler.url(user), lock_timeout=lock_timeout) as pooled, pooled.connection() as connection:
            connection.execute(ASKED, prepare=True)
            assert prepared(connection) == []
    finally:
        synced.database.execute(f"DROP ROLE {user}")


def test_a_prepared_statement_that_no_longer_fits_the_schema_is_prepared_again(synced: Synced) -> None:
    database = synced.runtime.database
    synced.database.execute("CREATE TABLE changing (value int); GRANT SELECT ON changing TO PUBLIC")
    query = sql.SQL("SELECT value FROM public.changing")
    with database.connection() as connection:
        connection.execute(query, prepare=True)
    synced.database.execute("ALTER TABLE changing ALTER value TYPE text")
    with pytest.raises(LOCK_CONFLICT), database.transaction() as connection:
        connection.execute(query, prepare=True)
    with database.transaction() as connection:
        connection.execute(query, prepare=True)


def test_an_unsupported_feature_is_no_stale_statement(synced: Synced) -> None:
    with pytest.raises(psycopg.errors.FeatureNotSupported), synced.runtime.database.connection() as connection:
        connection.execute("SELECT DISTINCT relname FROM pg_class FOR UPDATE", prepare=True)


def test_after_a_prepared_statement_has_vanished_none_is_prepared_any_more(synced: Synced) -> None:
    """A pooler that wasn't recognized has sent it to another connection."""
    database = synced.runtime.database
    with database.connection() as connection:
        connection.execute(ASKED, prepare=True)
        connection.execute("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")
    with pytest.raises(StaleStatementError), database.connection() as connection:
        connection.execute(ASKED, prepare=True)
    with database.connection() as connection:
        connection.execute(ASKED, prepare=True)
        assert prepared(connection) == []
