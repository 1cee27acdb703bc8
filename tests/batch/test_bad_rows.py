"""One bad row is one bad row: it is found and parked with its reason, and all others pass."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pgvector_sync.errors import InputRejected
from pgvector_sync.store import dead_letters
from support.steps import Steps
from support.synced import TEXT_LIMIT


def test_a_text_over_the_limit_is_parked_without_being_read_and_the_others_pass(docs: Steps) -> None:
    docs.insert(_1="x" * TEXT_LIMIT, _2="y" * (TEXT_LIMIT + 1), _3="z")
    outcome = docs.process()
    assert outcome is not None
    assert (outcome.stored, outcome.parked) == (2, 1)
    assert docs.synced.dead() == [([2], "too_large")]
    assert "2,001 bytes, the limit is 2,000" in docs.work(2, "error_message")


def test_a_text_that_grows_over_the_limit_keeps_its_last_vector_and_is_shown_as_dead(docs: Steps) -> None:
    docs.insert(_1="small")
    docs.synced.sync()
    docs.change(1, "x" * (TEXT_LIMIT + 1))
    docs.process()
    assert docs.synced.dead() == [([1], "too_large")]
    docs.change(1, "small again")
    docs.synced.sync()
    assert docs.has_vector_of(1, "small again")


@pytest.fixture
def numbers(docs: Steps) -> Steps:
    """A pipeline whose text divides by a number in the note, so that zero makes the expression fail on that row."""
    docs.synced.declare(text={"sql": "body || (100 / coalesce(note, '1')::int)"})
    docs.synced.apply()
    docs.synced.sync()
    docs.checks = False
    return docs


def test_a_row_on_which_the_expression_fails_is_parked_and_the_others_pass(numbers: Steps) -> None:
    numbers.synced.run("INSERT INTO docs SELECT i, 'text', 1 + i % 7 FROM generate_series(1, 20) AS i")
    numbers.synced.run("UPDATE docs SET note = '0' WHERE id = 13", "UPDATE docs SET note = 'zero' WHERE id = 17")
    outcome = numbers.process()
    assert outcome is not None
    assert (outcome.stored, outcome.parked) == (18, 2)
    assert numbers.work(13, "error_class", "error_message") == (
        "expression_failed",
        "text or where failed on this row (22012)",
    )
    assert "zero" not in numbers.work(17, "error_message")
    numbers.synced.run("UPDATE docs SET note = '5'")
    numbers.synced.settle()
    numbers.synced.exact()


def test_a_row_on_which_the_expression_begins_to_fail_during_the_call_holds_up_no_other(numbers: Steps) -> None:
    numbers.insert(_1="one", _2="two", _3="three")
    outcome = numbers.process(during=lambda: numbers.synced.run("UPDATE docs SET note = '0' WHERE id = 2"))
    assert outcome is not None
    numbers.end_backoffs()
    numbers.synced.settle()
    assert {key for (key,) in numbers.synced.vectors()} == {1, 3}
    assert numbers.synced.dead() == [([2], "expression_failed")]


def test_a_row_that_the_target_refuses_is_parked_after_its_attempts_and_the_others_are_written(
    docs: Steps,
) -> None:
    # as an index of the user's own does, or a key near the limit of the target's
    docs.synced.run("CREATE INDEX ON docs_embedding ((1 / (id - 2)))")
    docs.insert(_1="one", _2="two", _3="three")
    for _ in range(docs.runtime.settings.attempts):
        outcome = docs.process()
        docs.end_backoffs()
    assert outcome is not None
    assert set(docs.synced.vectors()) == {(1,), (3,)}
    assert docs.synced.dead() == [([2], "write_failed")]
    assert docs.work(2, "error_message") == "the write failed on this row (22012)"


def test_rows_of_equal_refused_texts_are_all_parked(docs: Steps) -> None:
    docs.synced.endpoint.fail(status=400, marker="poison")
    docs.insert(_1="poison", _2="fine", _3="poison")
    docs.process()
    assert [key for key, _ in docs.synced.dead()] == [[1], [3]]
    assert docs.has_vector_of(2, "fine")


def test_another_content_has_attempts_of_its_own(docs: Steps, worker: Callable[..., Steps]) -> None:
    docs.synced.endpoint.fail(status=500, marker="poison")
    docs.insert(_1="poison one", _2="fine")
    three = worker(attempts=3)
    for _ in range(2):
        three.process()
        docs.end_backoffs()
    docs.change(1, "poison two")
    three.process()
    assert docs.work(1, "attempts", "parked_at") == (1, None)
    docs.end_backoffs()
    three.process()
    docs.end_backoffs()
    three.process()
    assert docs.synced.dead() == [([1], "unavailable")]


@pytest.fixture
def dead(docs: Steps) -> Steps:
    """Row 1 is a dead letter: the endpoint rejects its text. It was called three times, the probe included."""
    docs.synced.endpoint.fail(status=400, marker="poison")
    docs.insert(_1="poison")
    docs.process()
    assert docs.synced.dead() == [([1], InputRejected.name)]
    return docs


def test_a_dead_letter_touched_with_the_same_content_is_dead_again_without_a_call(dead: Steps) -> None:
    calls, message = dead.synced.endpoint.calls.requests, dead.work(1, "error_message")
    dead.change(1, "something else")
    dead.change(1, "poison")
    dead.drain()
    assert dead.work(1, "parked_at") is None
    outcome = dead.process()
    assert outcome is not None
    assert outcome.parked == 1
    assert dead.synced.endpoint.calls.requests == calls
    assert dead.synced.dead() == [([1], InputRejected.name)], "the reason it was parked for is kept"
    assert dead.work(1, "error_message") == message


def test_a_discarded_dead_letter_touched_with_the_same_content_stays_discarded(dead: Steps) -> None:
    dead.synced.run("UPDATE pgvector_sync.work SET verdict = 'discarded'")
    dead.change(1, "something else")
    dead.change(1, "poison")
    dead.process()
    assert dead.work(1, "verdict", "lease") == ("discarded", None)
    assert dead.synced.dead() == []


def test_a_discarded_dead_letter_is_not_bought_again_by_a_backfill(dead: Steps) -> None:
    dead.insert(_2="fine")
    dead.synced.settle()
    with dead.runtime.database.transaction() as connection:
        assert dead_letters.discard(connection, "docs", [(1,)]) == 1
    inputs = dead.synced.paid()
    dead.synced.declare(where="id > 0")
    dead.synced.apply()
    dead.synced.settle()
    assert dead.synced.paid() == inputs
    assert dead.work(1, "verdict", "error_class") == ("discarded", InputRejected.name)
    dead.change(1, "harmless")
    dead.synced.sync()
    assert dead.in_work() == []


def test_a_dead_letter_keeps_the_vector_of_its_former_content(docs: Steps) -> None:
    docs.insert(_1="harmless")
    docs.synced.sync()
    docs.synced.endpoint.fail(status=400, marker="poison")
    docs.change(1, "poison")
    docs.process()
    assert docs.synced.dead() == [([1], InputRejected.name)]
    assert docs.has_vector_of(1, "harmless")


def test_a_dead_letter_revives_when_its_content_is_another(dead: Steps) -> None:
    dead.change(1, "harmless")
    dead.synced.sync()
    assert dead.has_vector_of(1, "harmless")
    assert dead.in_work() == []


def test_a_deleted_rows_dead_letter_goes_with_it(dead: Steps) -> None:
    dead.delete(1)
    dead.synced.sync()
    assert dead.in_work() == []


def test_a_row_that_changes_while_it_is_refused_is_not_parked_but_tried_again(docs: Steps) -> None:
    docs.synced.endpoint.fail(status=400, marker="poison")
    docs.insert(_1="poison")

    def change() -> None:
        docs.change(1, "harmless")
        docs.drain()

    outcome = docs.process(during=change)
    assert outcome is not None
    assert outcome.parked == 0
    docs.synced.sync()
    assert docs.has_vector_of(1, "harmless")


@pytest.mark.slow
def test_a_text_of_hundreds_of_megabytes_is_parked_and_holds_up_no_other(docs: Steps) -> None:
    # beyond 256 MB not even a regular expression can look at it
    docs.synced.run("INSERT INTO docs VALUES (1, repeat('huge ', 60000000)), (2, 'small')")
    outcome = docs.process()
    assert outcome is not None
    assert (outcome.stored, outcome.parked) == (1, 1)
    assert docs.synced.dead() == [([1], "too_large")]
