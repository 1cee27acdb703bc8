"""The interface of all providers: texts in, vectors or a ProviderError out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from pgvector_sync.model import Lane, Purpose
from pgvector_sync.model.learned import NOTHING_LEARNED, Learned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from pgvector_sync.embedding.calls import Calls
    from pgvector_sync.errors import ProviderError
    from pgvector_sync.model import Provider, Spec
    from pgvector_sync.model.deadline import Deadline
    from pgvector_sync.settings import Settings


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that was answered."""

    positions: Sequence[int]
    """The positions of its texts."""
    octets: int
    took: timedelta
    """The time until its answer, without retries and waiting."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The checked answer to one batch of texts, and what it cost."""

    vectors: NDArray[np.float32]
    """Shape (n, dimensions), in the order of the texts; finite, and no row is all zeros. NaN at the positions in
    `left`."""
    tokens: int
    """As the provider counted them; estimated as four bytes per token if it doesn't say."""
    requests: int
    """HTTP requests sent, including retries."""
    truncated: int = 0
    """How many texts were cut because they are longer than what the model reads, as far as the provider says."""
    left: tuple[int, ...] = ()
    """Positions of texts without an answer, because a request failed after others had been paid for."""
    failure: ProviderError | None = None
    """Why they have none."""
    sent: tuple[Sent, ...] = ()
    """The requests that were answered by a remote provider."""


class Embedder(Protocol):
    """A provider that can be called from any thread and, after a fork, from any process."""

    def prepare(self, spec: Spec) -> None:
        """Do everything except a call: check host and key, or load the model. Raises Misconfigured."""
        ...

    def embed(
        self,
        texts: Sequence[str],
        spec: Spec,
        *,
        deadline: Deadline,
        purpose: Purpose = Purpose.DOCUMENT,
        lane: Lane = Lane.LIVE,
        learned: Learned = NOTHING_LEARNED,
        calls: Calls | None = None,
    ) -> Embeddings:
        """Embed texts until the deadline. When the provider's limits make callers wait, live goes before bulk.

        Requests are as large as `learned` allows, besides the known limits. Each call of a remote provider is
        noted in `calls`.

        Raises ProviderError if no text was embedded: RateLimited (or its subclasses, for our own budget),
        Unavailable, OutOfTime at the deadline, BrokenContract, Misconfigured or InputRejected. If some texts were
        embedded, the answer holds the failure. An error has the `positions` and `octets` of the request that
        failed.
        """
        ...

    def close(self) -> None: ...


def open_embedder(provider: Provider, settings: Settings, environ: Mapping[str, str]) -> Embedder:
    """Open the embedder of a provider. Never fails.

    `prepare` or the first `embed` reports a wrong key or host, so that it becomes the state of the pipeline.
    """
    from pgvector_sync.embedding.dialects import dialect_of
    from pgvector_sync.embedding.network.hosts import address_of
    from pgvector_sync.embedding.provider_embedder import ProviderEmbedder

    dialect = dialect_of(provider)
    if dialect.needs_address:  # what is known about a host holds for the one that is called
        provider = replace(provider, base_url=address_of(provider, settings))
    return ProviderEmbedder(dialect, dialect.connect(provider, settings, environ), provider, settings)
