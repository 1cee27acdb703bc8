"""Rows that need no call: their text is unchanged, a duplicate, stored already or blank."""

from __future__ import annotations

import pytest

from pgvector_sync.model import Lane
from support.steps import Steps


def test_a_text_that_changed_there_and_back_while_it_waited_needs_no_call(docs: Steps) -> None:
    docs.insert(_1="a")
    docs.synced.sync()
    docs.change(1, "b")
    docs.drain()
    docs.change(1, "a")
    outcome = docs.process()
    assert outcome is not None
    assert outcome.unchanged == 1
    assert docs.synced.paid() == 1
    assert docs.in_work() == []
    docs.synced.sync()


def test_an_unchanged_row_that_changes_before_its_ack_is_embedded_after_all(docs: Steps) -> None:
    docs.insert(_1="a")
    docs.synced.sync()
    docs.change(1, "b")
    docs.change(1, "a")
    batch = docs.claim()
    prepared = docs.embed(batch)
    docs.change(1, "c")
    assert docs.write(batch, prepared).superseded == {(1,)}
    docs.synced.sync()
    assert docs.has_vector_of(1, "c")


def test_equal_texts_in_a_batch_are_sent_once(docs: Steps) -> None:
    docs.insert(_1="same", _2="same", _3="other", _4="same")
    outcome = docs.process()
    assert outcome is not None
    assert outcome.stored == 4
    assert docs.synced.paid() == 2
    docs.synced.sync()


def test_a_text_that_is_stored_for_another_row_is_not_bought_again(docs: Steps) -> None:
    docs.insert(_1="known")
    docs.synced.sync()
    docs.insert(_2="known", _3="unknown")
    outcome = docs.process()
    assert outcome is not None
    assert outcome.stored == 2
    assert docs.synced.paid() == 2
    docs.synced.sync()
    saved = docs.synced.database.value(
        "SELECT sum(saved_unchanged + saved_equal + saved_stored)::int FROM pgvector_sync.usage"
    )
    assert saved == 1


def test_a_row_whose_key_changed_takes_its_vector_along_without_a_call(docs: Steps) -> None:
    docs.insert(_1="kept", _2="kept")
    docs.synced.sync()
    docs.synced.run("UPDATE docs SET id = 10 WHERE id = 1")
    docs.synced.sync()
    assert set(docs.synced.vectors()) == {(10,), (2,)}
    assert docs.synced.paid() == 1


@pytest.mark.parametrize("nothing", [None, "", " \t\n"])
def test_a_row_whose_text_becomes_null_or_blank_loses_its_vector(docs: Steps, nothing: str | None) -> None:
    docs.insert(_1="text", _2="other")
    docs.synced.sync()
    docs.change(1, nothing)
    outcome = docs.process()
    assert outcome is not None
    assert outcome.removed == 1
    assert set(docs.synced.vectors()) == {(2,)}
    assert docs.synced.paid() == 2
    docs.synced.sync()


def test_a_row_that_where_no_longer_wants_loses_its_vector_and_has_it_back_later(docs: Steps) -> None:
    docs.synced.declare(where="note IS DISTINCT FROM 'hidden'")
    docs.synced.apply()
    docs.insert(_1="text", _2="other")
    docs.synced.sync()
    docs.synced.run("UPDATE docs SET note = 'hidden' WHERE id = 1")
    docs.synced.sync()
    assert set(docs.synced.vectors()) == {(2,)}
    docs.synced.run("UPDATE docs SET note = NULL")
    docs.synced.sync()
    assert set(docs.synced.vectors()) == {(1,), (2,)}
    assert docs.synced.paid() == 3


def test_a_row_that_where_stops_wanting_during_the_call_gets_no_vector(docs: Steps) -> None:
    docs.synced.declare(where="note IS NULL")
    docs.synced.apply()
    docs.insert(_1="text")
    outcome = docs.process(during=lambda: docs.synced.run("UPDATE docs SET note = 'hidden'"))
    assert outcome is not None
    assert (outcome.removed, outcome.absent) == (0, 1), "there was none to remove"
    assert docs.synced.vectors() == {}
    docs.synced.sync()


def test_a_row_gone_before_it_was_claimed_costs_nothing(docs: Steps) -> None:
    docs.insert(_1="text")
    docs.delete(1)
    outcome = docs.process()
    assert outcome is not None
    assert (outcome.removed, outcome.absent) == (0, 1)
    assert docs.in_work() == []
    assert docs.synced.paid() == 0


def test_a_backfill_of_what_is_fresh_already_pays_for_nothing(docs: Steps) -> None:
    docs.insert(_1="one", _2="two")
    docs.synced.sync()
    docs.synced.declare(where="id < 100")
    docs.synced.apply()
    docs.synced.sync()
    assert docs.synced.paid() == 2


def test_force_embeds_an_unchanged_row_again(docs: Steps) -> None:
    docs.insert(_1="text", _2="text")
    docs.synced.sync()
    docs.synced.run(
        "INSERT INTO pgvector_sync.work (pipeline_id, key, lane, waiting_since, visible_at, force) "
        "SELECT id, '[1]', 'bulk', now(), now(), true FROM pgvector_sync.pipeline"
    )
    outcome = docs.process(Lane.BULK)
    assert outcome is not None
    assert outcome.stored == 1
    assert docs.synced.paid() == 2
