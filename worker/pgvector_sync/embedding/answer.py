"""Checks a provider's answers: nothing unchecked is ever written to a target."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pybase64

from pgvector_sync.embedding.base64_vectors import TakenOut, take_out
from pgvector_sync.embedding.network.bounds import FIXED_BYTES
from pgvector_sync.errors import BrokenContract

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


_NUMBERS = {int, float, type(None)}
"""Types of the elements of a list. JSON has no NaN: many servers write null for it."""
_BRACKETS, _QUOTES, _COMMAS = 4, 40, 20
"""Allowed per vector, besides the commas between its numbers; honest answers have 2, 10 and 3."""
_PIECE_BYTES = 2**18
_WITHOUT_CASE = np.uint8(0xDF)
"""The bit that differs between upper and lower case also differs between `[` and `{`."""

_ONE_BY_ONE = "if the endpoint handles a single text per request only, set max_inputs = 1 for the provider"


@dataclass(frozen=True, slots=True)
class Answer:
    """The checked answer to one request."""

    vectors: NDArray[np.float32]
    """Shape (count, dimensions), in the order of the inputs."""
    tokens: int | None
    """None where the provider doesn't say."""
    truncated: int = 0
    """How many texts were cut because they are longer than what the model reads, as far as the provider says."""
    request_id: str | None = None
    """The provider's id of the request."""


def read_answer(body: bytes, *, count: int, dimensions: int) -> Answer:
    """Read an answer in the OpenAI format: vectors in base64 or as lists of numbers, ordered by `index`.

    Some endpoints answer with lists although base64 was requested, so the format is detected. Raises
    BrokenContract.
    """
    out = take_out(body, count=count, dimensions=dimensions, strings=_QUOTES // 2 * _items(count))
    if len(body) > FIXED_BYTES:
        _check_parts(out.rest, count=count, dimensions=dimensions)
    answer = _load(out.rest)
    try:
        items = [(item.get("index"), item["embedding"]) for item in answer["data"] or ()]
    except (TypeError, KeyError, AttributeError):
        raise _malformed() from None
    if not items or len(items) != count:
        raise _wrong_count(count, len(items))
    order = np.argsort(_indexes([index for index, _ in items]))
    embeddings = [items[position][1] for position in order]
    vectors = out.vectors if embeddings == out.marks else _read_vectors(embeddings, out, dimensions=dimensions)
    return Answer(_require_usable(vectors), _read_tokens(answer))


def _read_vectors(embeddings: Sequence[Any], out: TakenOut, *, dimensions: int) -> NDArray[np.float32]:
    """Return the vectors of an answer that has them in different forms, or in another order than the texts."""
    taken = dict(zip(out.marks, out.vectors, strict=True))
    rows = [
        taken[embedding] if isinstance(embedding, str) and embedding in taken else _read_vector(embedding)
        for embedding in embeddings
    ]
    if not any(row.size for row in rows):
        raise _wrong_count(len(embeddings), 0)
    return _as_array(rows, dimensions=dimensions)


def parse(body: bytes, *, count: int, dimensions: int, repeated: Sequence[str] = ()) -> Any:
    """Return the JSON of an answer with `count` vectors. `repeated` are texts that the answer may repeat.

    Raises BrokenContract.
    """
    if len(body) > FIXED_BYTES:
        _check_parts(body, count=count, dimensions=dimensions, repeated=repeated)
    return _load(body)


def _load(body: bytes) -> Any:
    try:
        # as a string: json.loads decodes bytes with an error handler that takes longer than all of the parsing
        return json.loads(body.decode(json.detect_encoding(body)))
    except (ValueError, RecursionError):
        raise _malformed() from None


def read_in_order(embeddings: Any, *, count: int, dimensions: int) -> NDArray[np.float32]:
    """Read and check vectors that are in the order of the inputs. Raises BrokenContract."""
    if not isinstance(embeddings, list):
        raise _malformed()
    if len(embeddings) != count:
        raise _wrong_count(count, len(embeddings))
    return check_vectors([_read_vector(embedding) for embedding in embeddings], dimensions=dimensions)


def field(answer: Any, *path: str) -> Any:
    """Return the value at a path of keys, None if the answer has none."""
    for key in path:
        answer = answer.get(key) if isinstance(answer, dict) else None
    return answer


def whole_number(value: Any) -> int | None:
    """Return a count that the provider gives, None if it isn't one. Some give it as 12.0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and value >= 0 else None


def check_vectors(rows: Sequence[NDArray[np.float32]], *, dimensions: int) -> NDArray[np.float32]:
    """Return the rows as one array of shape (n, dimensions).

    Raises BrokenContract for another number of dimensions, NaN, infinity, or a vector of zeros.
    """
    return _require_usable(_as_array(rows, dimensions=dimensions))


def _as_array(rows: Sequence[NDArray[np.float32]], *, dimensions: int) -> NDArray[np.float32]:
    """Return the rows as one array. Raises BrokenContract for another number of dimensions."""
    for row in rows:
        if row.shape != (dimensions,):
            raise BrokenContract(
                f"expected vectors of {dimensions} dimensions, got {row.size}",
                code="wrong_dimensions",
                dimensions=row.size,
                hint="check the pipeline's `dimensions`; a model with a fixed size accepts only that one",
            )
    return np.array(rows, dtype=np.float32).reshape(len(rows), dimensions)


def _require_usable(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the vectors. Raises BrokenContract for NaN, infinity, or a vector of zeros."""
    with np.errstate(all="ignore"):
        squares = np.vecdot(vectors, vectors)
    if (np.isfinite(squares) & (squares > 0)).all():
        return vectors  # one pass is enough, unless squares are too large or too small for float32
    if not np.isfinite(vectors).all():
        raise BrokenContract("a vector contains NaN or infinity", code="not_finite")
    if not vectors.any(axis=1).all():
        raise BrokenContract("a vector is all zeros", code="zero_vector")
    return vectors


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale checked vectors to unit length, in double precision: single squares may be 0 or infinite."""
    exact = vectors.astype(np.float64)
    scaled: NDArray[np.float32] = (exact / np.linalg.norm(exact, axis=1, keepdims=True)).astype(np.float32)
    return scaled


def _malformed() -> BrokenContract:
    return BrokenContract("the answer isn't a JSON embeddings object", code="malformed")


def _indexes(given: Sequence[object]) -> Sequence[int]:
    """Return the index of the input of each item. Raises BrokenContract unless each occurs exactly once.

    An item without an index is taken at its position if the indexes of all others are their positions: Gemini's
    endpoint leaves out an index of 0, others leave out all of them.
    """
    indexes = [index for index in given if type(index) is int]
    if sorted(indexes) == list(range(len(given))):
        return indexes
    if None in given and all(
        index is None or (type(index) is int and index == position) for position, index in enumerate(given)
    ):
        return range(len(given))
    message = f"expected each index from 0 to {len(given) - 1} exactly once"
    raise BrokenContract(message, code="wrong_index", hint=_ONE_BY_ONE)


def _wrong_count(expected: int, got: int) -> BrokenContract:
    if got == 0:
        return BrokenContract(
            "the answer contains no vectors",
            code="no_vectors",
            hint='if this persists, set encoding = "float" for the provider: some endpoints answer this to base64',
        )
    message = f"expected {expected} vectors, got {got}"
    return BrokenContract(message, code="wrong_count", hint=_ONE_BY_ONE if got == 1 else None)


def _check_parts(body: bytes, *, count: int, dimensions: int, repeated: Sequence[str] = ()) -> None:
    """Raise BrokenContract if the answer has more parts than the requested vectors can have.

    Three bytes of JSON (`{},`) take seventy in Python, so limiting the length alone doesn't limit memory.
    """
    items = _items(count)
    allowed = [_BRACKETS * items, _QUOTES * items, _COMMAS * items + count * dimensions]
    for text in repeated:
        allowed = [most + more for most, more in zip(allowed, _count_parts(text.encode()), strict=True)]
    if any(found > most for found, most in zip(_count_parts(body), allowed, strict=True)):
        raise BrokenContract(
            f"the answer contains more than {count} vectors of {dimensions} dimensions",
            code="oversized",
            hint="check the pipeline's `dimensions`; a model with a fixed size accepts only that one",
        )


def _items(count: int) -> int:
    """Return as how many vectors an answer of `count` vectors may look."""
    return count + 100


def _count_parts(text: bytes) -> tuple[int, int, int]:
    """Return how many opening brackets, quotes and commas a text has.

    numpy takes a fifth of the time of `bytes.count`, in pieces that fit into the processor's cache.
    """
    brackets = quotes = commas = 0
    for first in range(0, len(text), _PIECE_BYTES):
        piece = np.frombuffer(text, np.uint8, min(_PIECE_BYTES, len(text) - first), first)
        brackets += int(np.count_nonzero((piece & _WITHOUT_CASE) == ord("[")))
        quotes += int(np.count_nonzero(piece == ord('"')))
        commas += int(np.count_nonzero(piece == ord(",")))
    return brackets, quotes, commas


def _read_vector(embedding: Any) -> NDArray[np.float32]:
    with suppress(ValueError, OverflowError):
        if isinstance(embedding, str):
            return np.frombuffer(pybase64.b64decode(embedding, validate=True), dtype="<f4")
        # Checked before numpy sees it, which would reserve the length of the longest string for every element.
        if isinstance(embedding, list) and _NUMBERS.issuperset(map(type, embedding)):
            with np.errstate(over="ignore"):  # numbers too large for float32 become infinity, which is rejected
                return np.array(embedding, dtype=np.float64).astype(np.float32)
    raise BrokenContract("a vector is neither base64 nor a list of numbers", code="malformed")


def _read_tokens(answer: Any) -> int | None:
    """Return the tokens that the answer counts. Some endpoints count 0 because they don't know."""
    usage = answer.get("usage")
    counts = [usage.get(name) for name in ("total_tokens", "prompt_tokens")] if isinstance(usage, dict) else []
    return next((tokens for tokens in counts if type(tokens) is int and tokens > 0), None)
