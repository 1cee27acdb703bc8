"""The pool's check of a connection, which costs no round trip while the connection is in use."""

from __future__ import annotations

import pytest

from pgvector_sync.database import Connection, silence
from support.synced import Synced


def pid(connection: Connection) -> int:
    return connection.info.backend_pid


def test_a_connection_that_the_server_has_just_closed_is_replaced(synced: Synced) -> None:
    database = synced.runtime.database
    with database.connection() as connection:
        connection.execute("SELECT 1")
        first = pid(connection)
    assert synced.database.value("SELECT pg_terminate_backend(%s, 5000)", first)
    with database.connection() as connection:
        assert connection.execute("SELECT 1").fetchone()
        assert pid(connection) != first


@pytest.mark.parametrize(("heard", "asked"), [("just now", 0), ("long ago", 1)])
def test_only_a_connection_that_was_not_just_used_is_checked_by_a_statement(
    synced: Synced, heard: str, asked: int
) -> None:
    statements: list[str] = []
    with Connection.connect(synced.database.url, autocommit=True) as connection:
        connection.add_notice_handler(lambda logged: statements.append(str(logged.message_primary)))
        connection.execute("SET client_min_messages = log; SET log_statement = 'all'")
        if heard == "long ago":
            connection.heard_at -= silence.FRESH_FOR.total_seconds()
        silence.check_connection(connection)
    assert len(statements) == asked
