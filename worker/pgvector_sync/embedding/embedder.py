"""What every provider can do for us: turn texts into vectors, or say why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pgvector_sync.model import Lane, Purpose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from pgvector_sync.errors import ProviderError
    from pgvector_sync.model import Provider, Spec
    from pgvector_sync.model.deadline import Deadline
    from pgvector_sync.settings import Settings


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The checked answer to one batch of texts, and what it cost."""

    vectors: NDArray[np.float32]
    """(n, dimensions), in the order of the texts; finite, and no row is all zeros. NaN where `left`."""
    tokens: int
    """As the provider counted them; four bytes a token where it doesn't say."""
    requests: int
    """HTTP requests sent, those that had to be repeated among them."""
    left: tuple[int, ...] = ()
    """Positions without an answer: a request failed after others had been paid for."""
    failure: ProviderError | None = None
    """Why they were left."""


class Embedder(Protocol):
    """A provider, ready to be called from any thread and, after a fork, from any process."""

    def prepare(self, spec: Spec) -> None:
        """Everything short of a call: checks host and key, or loads the model. Raises Misconfigured."""
        ...

    def embed(
        self,
        texts: Sequence[str],
        spec: Spec,
        *,
        deadline: Deadline,
        purpose: Purpose = Purpose.DOCUMENT,
        lane: Lane = Lane.LIVE,
    ) -> Embeddings:
        """The texts' vectors; gives up at the deadline.
        `lane` says who goes first where the provider's limits make callers wait.

        Raises ProviderError if no text was answered: RateLimited (BudgetExhausted where our own budget would have
        had room too late), Unavailable, OutOfTime where the deadline ended it, BrokenContract, Misconfigured,
        InputRejected.
        """
        ...

    def close(self) -> None: ...


def open_embedder(provider: Provider, settings: Settings, environ: Mapping[str, str]) -> Embedder:
    """The embedder of a provider. Never fails: what is wrong with key or host shows in `prepare` or the first
    `embed`, where a pipeline's state can say so.
    """
    from pgvector_sync.embedding.dialects import dialect_of
    from pgvector_sync.embedding.provider_embedder import ProviderEmbedder

    dialect = dialect_of(provider)
    return ProviderEmbedder(dialect, dialect.connect(provider, settings, environ), provider, settings)
