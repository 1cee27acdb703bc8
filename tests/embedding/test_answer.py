from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from pgvector_sync.embedding.answer import check_vectors, read_answer
from pgvector_sync.errors import BrokenContract


def body(*items, **more):
    return json.dumps({"data": [{"index": i, "embedding": e} for i, e in items], **more}).encode()


def test_vectors_are_mapped_by_index_from_base64_and_from_lists():
    packed = base64.b64encode(np.array([1, 2], dtype="<f4").tobytes()).decode()
    answer = read_answer(
        body((1, packed), (0, [0.5, 3]), usage={"prompt_tokens": 7, "total_tokens": 7}), count=2, dimensions=2
    )
    assert answer.vectors.tolist() == [[0.5, 3.0], [1.0, 2.0]]
    assert answer.vectors.dtype == np.float32
    assert answer.tokens == 7


@pytest.mark.parametrize(
    "usage", [None, [], {}, {"total_tokens": "7"}, {"total_tokens": -1}, {"total_tokens": True}]
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
        (b'{"data": null}', "malformed"),
        (b'{"error": {"message": "x"}}', "malformed"),
        (b'{"data": [1]}', "malformed"),
        (b"[" * 100_000, "malformed"),
        (body(), "wrong_count"),
        (body((0, [1.0]), (1, [1.0])), "wrong_count"),
        (body((1, [1.0])), "wrong_index"),
        (body((-1, [1.0])), "wrong_index"),
        (body((True, [1.0])), "wrong_index"),
        (body(("0", [1.0])), "wrong_index"),
        (body((None, [1.0])), "wrong_index"),
        (body((0, "not base64!")), "malformed"),
        (body((0, "AAA=")), "malformed"),
        (body((0, ["1.0"])), "malformed"),
        (body((0, [None])), "malformed"),
        (body((0, [[1.0], [1.0, 2.0]])), "malformed"),
        (body((0, {"a": 1})), "malformed"),
        (body((0, None)), "malformed"),
        (body((0, [10**400])), "malformed"),
        (body((0, [True])), "malformed"),
        (body((0, [[1.0]])), "malformed"),
        (body((0, 1.0)), "malformed"),
        (body((0, [1.0, 2.0])), "wrong_dimensions"),
        (body((0, [])), "wrong_dimensions"),
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
