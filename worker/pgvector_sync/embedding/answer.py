"""Checks a provider's answers: nothing unchecked is ever written to a target."""

from __future__ import annotations

import binascii
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pgvector_sync.embedding.bounds import FIXED_BYTES
from pgvector_sync.errors import BrokenContract

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


_NUMBERS = {int, float}
_BRACKETS, _QUOTES, _COMMAS = 4, 40, 20
"""Allowed per vector, besides the commas between its numbers; honest answers have 2, 10 and 3."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The checked answer to one request."""

    vectors: NDArray[np.float32]
    """Shape (count, dimensions), in the order of the inputs."""
    tokens: int | None
    """None where the provider doesn't say."""
    truncated: int = 0
    """How many texts were cut because they are longer than what the model reads, as far as the provider says."""


def read_answer(body: bytes, *, count: int, dimensions: int) -> Answer:
    """Read an answer in the OpenAI format: vectors in base64 or as lists of numbers, ordered by `index`.

    Some endpoints answer with lists although base64 was requested, so the format is detected. Raises
    BrokenContract.
    """
    _check_parts(body, count=count, dimensions=dimensions)
    try:
        answer = json.loads(body)
        items = answer["data"]
        indexed = [(item["index"], item["embedding"]) for item in items]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BrokenContract("the answer isn't a JSON embeddings object", code="malformed") from None
    if len(indexed) != count:
        raise BrokenContract(f"expected {count} vectors, got {len(indexed)}", code="wrong_count")
    rows: list[NDArray[np.float32] | None] = [None] * count
    for index, embedding in indexed:
        if type(index) is not int or not 0 <= index < count or rows[index] is not None:
            raise BrokenContract(f"expected each index from 0 to {count - 1} exactly once", code="wrong_index")
        rows[index] = _read_vector(embedding)
    vectors = check_vectors([row for row in rows if row is not None], dimensions=dimensions)
    return Answer(vectors, _read_tokens(answer))


def check_vectors(rows: Sequence[NDArray[np.float32]], *, dimensions: int) -> NDArray[np.float32]:
    """Return the rows as one array of shape (n, dimensions).

    Raises BrokenContract for another number of dimensions, NaN, infinity, or a vector of zeros.
    """
    for row in rows:
        if row.shape != (dimensions,):
            raise BrokenContract(
                f"expected vectors of {dimensions} dimensions, got {row.size}",
                code="wrong_dimensions",
                hint="check the pipeline's `dimensions`; a model with a fixed size accepts only that one",
            )
    vectors = np.array(rows, dtype=np.float32).reshape(len(rows), dimensions)
    if not np.isfinite(vectors).all():
        raise BrokenContract("a vector contains NaN or infinity", code="not_finite")
    if not vectors.any(axis=1).all():
        raise BrokenContract("a vector is all zeros", code="zero_vector")
    return vectors


def _check_parts(body: bytes, *, count: int, dimensions: int) -> None:
    """Raise BrokenContract if the answer has more parts than the requested vectors can have.

    Three bytes of JSON (`{},`) take seventy in Python, so limiting the length alone doesn't limit memory.
    """
    if len(body) <= FIXED_BYTES:
        return
    parts = count + 100
    if (
        body.count(b"{") + body.count(b"[") > _BRACKETS * parts
        or body.count(b'"') > _QUOTES * parts
        or body.count(b",") > _COMMAS * parts + count * dimensions
    ):
        raise BrokenContract(
            f"the answer contains more than {count} vectors of {dimensions} dimensions",
            code="oversized",
            hint="check the pipeline's `dimensions`; a model with a fixed size accepts only that one",
        )


def _read_vector(embedding: Any) -> NDArray[np.float32]:
    with suppress(ValueError, OverflowError):
        if isinstance(embedding, str):
            return np.frombuffer(binascii.a2b_base64(embedding, strict_mode=True), dtype="<f4")
        # Checked before numpy sees it, which would reserve the length of the longest string for every element.
        if isinstance(embedding, list) and _NUMBERS.issuperset(map(type, embedding)):
            with np.errstate(over="ignore"):  # numbers too large for float32 become infinity, which is rejected
                return np.array(embedding, dtype=np.float64).astype(np.float32)
    raise BrokenContract("a vector is neither base64 nor a list of numbers", code="malformed")


def _read_tokens(answer: Any) -> int | None:
    usage = answer.get("usage")
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    return tokens if type(tokens) is int and tokens >= 0 else None
