from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgvector_sync.embedding import answer as answers
from pgvector_sync.embedding.answer import check_vectors, read_answer
from pgvector_sync.embedding.base64_vectors import TakenOut
from pgvector_sync.embedding.network.bounds import FIXED_BYTES
from pgvector_sync.errors import BrokenContract


def packed(*numbers):
    return base64.b64encode(np.array(numbers, dtype="<f4").tobytes()).decode()


def body(*items, **more):
    return json.dumps({"data": [{"index": i, "embedding": e} for i, e in items], **more}).encode()


def test_vectors_are_mapped_by_index_from_base64_and_from_lists():
    answer = read_answer(
        body((1, packed(1, 2)), (0, [0.5, 3]), usage={"prompt_tokens": 7, "total_tokens": 7}),
        count=2,
        dimensions=2,
    )
    assert answer.vectors.tolist() == [[0.5, 3.0], [1.0, 2.0]]
    assert answer.vectors.dtype == np.float32
    assert answer.tokens == 7


@pytest.mark.parametrize("count", [0, 1])
def test_an_answer_without_vectors_is_refused_even_if_none_were_requested(count):
    with pytest.raises(BrokenContract, match="the answer contains no vectors"):
        read_answer(body(), count=count, dimensions=2)


def without_index(*positions, count=3):
    """An answer of `count` vectors, of which those at the positions have no index."""
    items = [{"index": i, "embedding": [i + 1.0]} for i in range(count)]
    for position in positions:
        del items[position]["index"]
    return items


@pytest.mark.parametrize("missing", [[0], [1], [0, 2], [0, 1, 2]])
@pytest.mark.parametrize("as_null", [False, True])
def test_an_item_without_an_index_is_taken_at_its_position_if_the_others_are_at_theirs(missing, as_null):
    items = without_index(*missing)
    if as_null:
        items = [{"index": None, **item} for item in items]
    answer = read_answer(json.dumps({"data": items}).encode(), count=3, dimensions=1)
    assert answer.vectors.tolist() == [[1.0], [2.0], [3.0]]


@pytest.mark.parametrize("indexes", [(None, 2, 1), (None, 0, 1), (1, None, 0), (None, 1, True), (None, 1, 2.0)])
def test_an_item_without_an_index_among_others_at_wrong_positions_could_be_anyones(indexes):
    items = [{"embedding": [1.0]} if index is None else {"index": index, "embedding": [1.0]} for index in indexes]
    with pytest.raises(BrokenContract) as caught:
        read_answer(json.dumps({"data": items}).encode(), count=3, dimensions=1)
    assert caught.value.code == "wrong_index"


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_an_answer_may_have_a_byte_order_mark_or_another_form_of_unicode(mark):
    content = body((0, [0.5])).decode().encode(mark)
    assert read_answer(content, count=1, dimensions=1).vectors.tolist() == [[0.5]]


def test_one_vector_for_several_texts_names_the_setting_that_sends_one_text_per_request():
    with pytest.raises(BrokenContract, match="expected 3 vectors, got 1") as caught:
        read_answer(body((0, [1.0])), count=3, dimensions=1)
    assert "max_inputs = 1" in caught.value.hint


@pytest.mark.parametrize(
    "usage", [{"total_tokens": 7}, {"prompt_tokens": 7}, {"total_tokens": 0, "prompt_tokens": 7}]
)
def test_tokens_are_those_of_any_count_that_is_given(usage):
    assert read_answer(body((0, [1.0]), usage=usage), count=1, dimensions=1).tokens == 7


@pytest.mark.parametrize(
    "usage",
    [None, [], {}, {"total_tokens": "7"}, {"total_tokens": -1}, {"total_tokens": True}, {"total_tokens": 0}],
)
def test_an_invalid_usage_is_ignored(usage):
    assert read_answer(body((0, [1.0]), usage=usage), count=1, dimensions=1).tokens is None


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b"<html>", "malformed"),
        (b"null", "malformed"),
        (b'{"data": null}', "no_vectors"),
        (b'{"error": {"message": "x"}}', "malformed"),
        (b'{"data": [1]}', "malformed"),
        (b"[" * 100_000, "malformed"),
        (body(), "no_vectors"),
        (body((0, [1.0]), (1, [1.0])), "wrong_count"),
        (body((1, [1.0])), "wrong_index"),
        (body((-1, [1.0])), "wrong_index"),
        (body((True, [1.0])), "wrong_index"),
        (body(("0", [1.0])), "wrong_index"),
        (body((0.0, [1.0])), "wrong_index"),
        (body((0, "not base64!")), "malformed"),
        (body((0, "AAA=")), "malformed"),
        (body((0, ["1.0"])), "malformed"),
        (body((0, [None])), "not_finite"),
        (body((0, [[1.0], [1.0, 2.0]])), "malformed"),
        (body((0, {"a": 1})), "malformed"),
        (body((0, None)), "malformed"),
        (body((0, [10**400])), "malformed"),
        (body((0, [True])), "malformed"),
        (body((0, [[1.0]])), "malformed"),
        (body((0, 1.0)), "malformed"),
        (body((0, [1.0, 2.0])), "wrong_dimensions"),
        (body((0, [])), "no_vectors"),
        (body((0, "")), "no_vectors"),
        (body((0, [float("nan")])), "not_finite"),
        (body((0, [float("-inf")])), "not_finite"),
        (body((0, [1e300])), "not_finite"),
        (b'{"data": [{"index": 0, "embedding": [1e999999999]}]}', "not_finite"),
        (b'{"data": [{"index": 0, "embedding": [%s]}]}' % (b"9" * 100_000), "malformed"),
        (b'{"data": [{"index": 0, "embedding": [0.%s]}]}' % (b"0" * 100_000), "zero_vector"),
        (b'{"data": [{"index": 0, "embedding": [{}]}]}', "malformed"),
        (body((0, [0.0])), "zero_vector"),
        (body((0, [-0.0])), "zero_vector"),
    ],
)
def test_an_invalid_answer_breaks_the_contract(content, code):
    with pytest.raises(BrokenContract) as caught:
        read_answer(content, count=1, dimensions=1)
    assert caught.value.code == code


def test_a_vector_of_zeros_is_found_among_valid_ones():
    good = np.ones(3, dtype=np.float32)
    with pytest.raises(BrokenContract):
        check_vectors([good, good * 0, good], dimensions=3)
    assert check_vectors([good, good], dimensions=3).shape == (2, 3)


def test_vectors_in_base64_are_mapped_by_index():
    content = body((2, packed(5, 6)), (0, packed(1, 2)), (1, packed(3, 4)))
    assert read_answer(content, count=3, dimensions=2).vectors.tolist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize("other", ['a "quoted" word', "\\", "\0" + "0", packed(7, 8), f'"{packed(7, 8)}"'])
@pytest.mark.parametrize("first", [True, False])
def test_other_strings_of_an_answer_are_taken_for_no_vector(other, first):
    data = {"data": [{"index": i, "embedding": packed(i, 1)} for i in range(2)]}
    content = {"model": other} | data if first else data | {"model": other}
    assert read_answer(json.dumps(content).encode(), count=2, dimensions=2).vectors.tolist() == [[0, 1], [1, 1]]


@pytest.mark.parametrize("mark", ["\0" + "0", "\0" + "1", "0", packed(1, 2)[:-1] + "!", packed(1, 2)[:-2] + '\\"'])
def test_what_stands_for_a_vector_must_be_one(mark):
    with pytest.raises(BrokenContract) as caught:
        read_answer(body((0, packed(1, 2)), (1, mark)), count=2, dimensions=2)
    assert caught.value.code == "malformed"


def test_a_long_answer_has_no_more_parts_besides_its_vectors_than_they_need():
    numbers = np.ones(FIXED_BYTES // 4)
    honest = body((0, packed(*numbers)))
    assert read_answer(honest, count=1, dimensions=len(numbers)).vectors.shape == (1, len(numbers))
    with pytest.raises(BrokenContract) as caught:
        read_answer(honest[:-1] + b', "more": [' + b"[]," * 1_000 + b"[]]}", count=1, dimensions=len(numbers))
    assert caught.value.code == "oversized"


HONEST = body((0, packed(1, 2)), (1, packed(3, 4)), model="x").decode()
FRAGMENTS = st.sampled_from(
    [*'"\\,{}[]: éA=', '\\"', "\\u0000", '"\\u00000"', "null", "data", "embedding", "[1.0, 2.0]"]
)
VECTORS = st.sampled_from([packed(5, 6), f'"{packed(5, 6)}"', f'{{"embedding": "{packed(0, 0)}"}}'])
EDITS = st.lists(st.tuples(st.integers(0, len(HONEST)), st.integers(0, 20), FRAGMENTS | VECTORS), max_size=4)


def outcome(content):
    try:
        return read_answer(content, count=2, dimensions=2).vectors.tolist()
    except BrokenContract as error:
        return error.code


@settings(max_examples=500)
@given(edits=EDITS)
def test_taking_vectors_out_before_the_json_is_parsed_changes_no_answer(edits):
    content = HONEST
    for position, cut, inserted in edits:
        content = content[:position] + inserted + content[position + cut :]
    taken = outcome(content.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "take_out", lambda body, **_: TakenOut(body, [], np.empty((0, 2), np.float32)))
        assert outcome(content.encode()) == taken
