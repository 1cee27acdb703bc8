"""Takes the vectors in base64 out of an answer before its JSON is parsed.

They are nearly all of it, and a parser looks at each of their characters and copies them three times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pybase64

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TakenOut:
    """An answer without its vectors in base64."""

    rest: bytes
    """The JSON, with a mark in the place of each vector."""
    marks: list[str]
    """As the parser returns them, in the order of the JSON. No other string can be one of them: a NUL needs a
    backslash, and `rest` has no others."""
    vectors: NDArray[np.float32]
    """The vector of each mark."""


def take_out(body: bytes, *, count: int, dimensions: int, strings: int) -> TakenOut:
    """Take out up to `count` vectors: strings of their length in strict base64, among the first `strings` ones.

    Nothing else is checked.
    """
    octets = 4 * dimensions
    length = -(-octets // 3) * 4
    vectors = np.empty(count * octets, np.uint8)
    room, view = vectors.data, memoryview(body)
    parts: list[bytes | memoryview] = []
    taken = done = 0
    closing = -1
    for _ in range(strings):
        opening = body.find(b'"', closing + 1)
        closing = body.find(b'"', opening + 1)
        if opening < 0 or closing < 0 or taken == count:
            break
        if closing - opening - 1 == length:
            try:  # into its place while it is in the processor's cache
                decoded = pybase64.b64decode(view[opening + 1 : closing], validate=True)
                room[taken * octets : (taken + 1) * octets] = decoded
            except ValueError:
                continue  # left for the parser
            parts += (view[done : opening + 1], b"\\u0000%d" % taken)
            taken, done = taken + 1, closing
    rest = b"".join((*parts, view[done:])) if taken else body
    if rest.count(b"\\") > taken:  # a quote may be escaped, so that other strings were found than the parser's
        rest, taken = body, 0
    rows = vectors.view("<f4").reshape(count, dimensions).astype(np.float32, copy=False)
    return TakenOut(rest, [f"\0{number}" for number in range(taken)], rows[:taken])
