"""What one call showed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING

import numpy as np

from pgvector_sync.errors import Next, ProviderError, RowFault

if TYPE_CHECKING:
    from numpy.typing import NDArray

WRONG_KEY = 401
"""A status that says nothing about one request."""


class Outcome(Enum):
    """What became of a call."""

    ANSWERED = auto()
    REFUSED = auto()
    """The provider rejected the request."""
    INVALID = auto()
    """The answer isn't valid, for example because it has another number of vectors."""
    FAILED = auto()
    """The provider answered with an error of its own."""
    UNANSWERED = auto()
    """The provider didn't answer in time."""
    ENDS = auto()
    """The next call would fail as well: rate limited, no quota, no connection, no time left."""


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """The answer to a call, or its failure."""

    took: timedelta
    vectors: NDArray[np.float32] | None = None
    tokens: int | None = None
    """As the provider counted them."""
    failure: ProviderError | None = None

    @property
    def outcome(self) -> Outcome:
        if self.failure is None:
            return Outcome.ANSWERED
        what = self.failure.disposition
        if what.row in (RowFault.NEVER, RowFault.IN_A_PROBE) or self.failure.status == WRONG_KEY:
            return Outcome.ENDS
        if what.row.rejects:
            return Outcome.REFUSED
        if what.pipeline is Next.STOP:
            return Outcome.INVALID
        if self.failure.unanswered:
            return Outcome.UNANSWERED
        return Outcome.ENDS if self.failure.status is None else Outcome.FAILED

    @property
    def answered(self) -> bool:
        return self.outcome is Outcome.ANSWERED

    @property
    def size(self) -> int | None:
        """The dimensions of the returned vectors, even if others were requested."""
        if self.vectors is not None and len(self.vectors):
            return int(self.vectors.shape[1])
        return None if self.failure is None else self.failure.dimensions

    @property
    def words(self) -> str:
        """Describe a failure with the provider's status and short code; never with its message."""
        failure = self.failure
        if failure is None:
            return "accepted"
        answer = " ".join(str(part) for part in (failure.status, failure.code) if part is not None)
        match self.outcome:
            case Outcome.REFUSED:
                return f"refused ({answer})"
            case Outcome.FAILED:
                return f"failed ({answer})"
            case Outcome.UNANSWERED:
                return f"no answer within {self.took.total_seconds():.0f} s"
            case _:
                return str(failure)


def likeness(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the cosine of two vectors, 1.0 if they are identical."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
