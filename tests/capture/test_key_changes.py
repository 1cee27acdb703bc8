"""A changed key leaves an event for its old and for its new value."""

from __future__ import annotations

import pytest

from support.synced import Synced, session


@pytest.fixture
def docs(applied: None, synced: Synced) -> Synced:
    synced.filled("INSERT INTO docs VALUES (3, 'three'), (2, 'two'), (1, 'one')")
    return synced


def test_a_key_change_leaves_both_keys_and_the_old_vector_goes_with_the_drain(docs: Synced):
    docs.run("UPDATE docs SET id = 30 WHERE id = 3")
    assert docs.events() == [[30], [3]]
    assert set(docs.vectors()) == {(1,), (2,), (3,)}
    docs.sync()
    assert set(docs.vectors()) == {(1,), (2,), (30,)}


def test_a_key_change_does_not_pay_for_the_text_again_while_an_equal_one_is_stored(docs: Synced):
    docs.run("INSERT INTO docs VALUES (4, 'three')")
    docs.sync()
    paid = docs.paid()
    docs.run("UPDATE docs SET id = 40 WHERE id = 4")
    docs.sync()
    assert docs.paid() == paid


def test_keys_that_move_up_by_one_in_one_statement_end_with_the_right_texts(docs: Synced):
    docs.run("UPDATE docs SET id = id + 1")  # in the order of the table: 3 → 4, 2 → 3, 1 → 2
    assert sorted(docs.events()) == [[1], [2], [2], [3], [3], [4]]
    assert set(docs.vectors()) == {(1,), (2,), (3,)}  # only the drain knows which of these keys exist
    docs.sync()
    assert docs.texts() == {(4,): "three", (3,): "two", (2,): "one"}


def test_two_keys_swapped_in_one_transaction_end_with_the_right_texts(docs: Synced):
    with session(docs.database) as writer:
        writer.execute("UPDATE docs SET id = -1 WHERE id = 1")
        writer.execute("UPDATE docs SET id = 1 WHERE id = 2")
        writer.execute("UPDATE docs SET id = 2 WHERE id = -1")
        writer.commit()
    docs.sync()
    assert docs.texts() == {(1,): "two", (2,): "one", (3,): "three"}


def test_keys_swapped_in_one_statement_under_a_deferrable_constraint_beside_the_key_are_captured(
    synced: Synced,
):
    synced.run(
        "CREATE TABLE docs (id int PRIMARY KEY, place int UNIQUE DEFERRABLE INITIALLY DEFERRED, body text)",
        "INSERT INTO docs VALUES (1, 1, 'one'), (2, 2, 'two')",
    )
    synced.pipeline(text=["place", "body"])
    synced.run("UPDATE docs SET place = 3 - place")
    assert synced.events() == [[1], [2]]
    synced.sync()


def test_a_key_change_that_is_rolled_back_changes_nothing(docs: Synced):
    with session(docs.database) as writer:
        writer.execute("UPDATE docs SET id = 30 WHERE id = 3")
        writer.rollback()
    assert docs.events() == []
    docs.sync()
    assert set(docs.vectors()) == {(1,), (2,), (3,)}


def test_a_part_of_a_composite_key_may_change(synced: Synced):
    synced.run(
        "CREATE TABLE docs (tenant text, id int, body text, PRIMARY KEY (tenant, id))",
        "INSERT INTO docs VALUES ('a', 1, 'one'), ('b', 1, 'uno')",
    )
    synced.pipeline()
    synced.run("UPDATE docs SET tenant = 'c' WHERE tenant = 'a'", "UPDATE docs SET id = 2 WHERE tenant = 'b'")
    assert synced.events() == [["c", 1], ["a", 1], ["b", 2], ["b", 1]]
    synced.sync()
    assert set(synced.vectors()) == {("c", 1), ("b", 2)}
