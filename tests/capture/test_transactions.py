"""Events live and die with the application's transaction."""

from __future__ import annotations

import psycopg
import pytest

from support.synced import Synced, session


@pytest.fixture
def docs(applied: None, synced: Synced) -> Synced:
    synced.filled("INSERT INTO docs VALUES (1, 'one'), (2, 'two')")
    return synced


def test_nothing_is_left_of_a_transaction_that_is_rolled_back(docs: Synced):
    with session(docs.database) as writer:
        writer.execute("UPDATE docs SET body = 'uno' WHERE id = 1")
        writer.execute("DELETE FROM docs WHERE id = 2")
        docs.sync()  # sees nothing of it
        writer.rollback()
    assert docs.events() == []
    docs.sync()


def test_only_what_a_savepoint_kept_is_captured(docs: Synced):
    with session(docs.database) as writer:
        writer.execute("UPDATE docs SET body = 'uno' WHERE id = 1")
        writer.execute("SAVEPOINT s")
        writer.execute("DELETE FROM docs WHERE id = 2")
        writer.execute("INSERT INTO docs VALUES (3, 'three')")
        writer.execute("ROLLBACK TO s")
        writer.execute("INSERT INTO docs VALUES (4, 'four')")
        writer.commit()
    assert docs.events() == [[1], [4]]
    docs.sync()
    assert set(docs.vectors()) == {(1,), (2,), (4,)}


def test_nothing_is_left_of_a_statement_that_fails(docs: Synced):
    with pytest.raises(psycopg.errors.UniqueViolation):
        docs.run("INSERT INTO docs VALUES (3, 'three'), (1, 'again')")
    assert docs.events() == []
    docs.sync()


def test_a_transaction_that_commits_after_younger_ones_were_drained_is_not_missed(docs: Synced):
    with session(docs.database) as slow:
        slow.execute("UPDATE docs SET body = 'slow' WHERE id = 1")
        docs.run("UPDATE docs SET body = 'quick' WHERE id = 2", "INSERT INTO docs VALUES (3, 'three')")
        docs.sync()  # ids beyond the slow transaction's are gone by now
        slow.commit()
    assert docs.events() == [[1]]
    docs.sync()
    assert docs.texts()[1,] == "slow"


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_writers_of_every_isolation_level_are_captured(docs: Synced, level: str):
    with session(docs.database) as writer:
        writer.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        writer.execute("UPDATE docs SET body = 'uno' WHERE id = 1")
        writer.execute("INSERT INTO docs VALUES (3, 'three')")
        writer.commit()
    assert docs.events() == [[1], [3]]
    docs.sync()


def test_two_serializable_writers_of_different_rows_both_commit(docs: Synced):
    with session(docs.database) as first, session(docs.database) as second:
        for writer, number in ((first, 1), (second, 2)):
            writer.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            writer.execute("UPDATE docs SET body = 'changed' WHERE id = %s", [number])
        first.commit()
        second.commit()
    docs.sync()


def test_a_prepared_transaction_counts_when_it_commits(docs: Synced):
    if docs.database.value("SHOW max_prepared_transactions") == "0":
        pytest.skip("the test server allows no prepared transactions")
    docs.run("BEGIN; UPDATE docs SET body = 'uno' WHERE id = 1; PREPARE TRANSACTION 'p'")
    docs.sync()
    docs.run("COMMIT PREPARED 'p'")
    assert docs.events() == [[1]]
    docs.sync()
