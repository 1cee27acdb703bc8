"""Embed: equal texts once, stored texts not at all, and a row that is refused is found by halving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pgvector_sync.embedding.embedder import Embedder
from pgvector_sync.errors import (
    BrokenContract,
    InputRejected,
    Misconfigured,
    ProviderError,
    RateLimited,
    Unavailable,
)
from pgvector_sync.failpoint import Failpoint, reach
from pgvector_sync.store import rows
from pgvector_sync.store.rows import Vector32
from pgvector_sync.sync.batch.claim import Batch
from pgvector_sync.sync.batch.read import Failure, Reading
from pgvector_sync.sync.runtime import Runtime

OUR_DEADLINE = "deadline"
"""The code of an Unavailable that says nothing about the provider: the batch had no time left."""
PROBE_TEXT = "pgvector-sync asks whether this model answers."
_BISECTED = (InputRejected, Unavailable, BrokenContract)
"""Failures that may be one row's fault, if a probe text succeeds at the same time."""


@dataclass
class Embedded:
    """Vectors and failures by fingerprint; what is in neither was not reached."""

    vectors: dict[bytes, Vector32] = field(default_factory=dict)
    failures: dict[bytes, Failure] = field(default_factory=dict)
    stopped_by: ProviderError | None = None
    """The provider's own failure: nobody's attempt is used up."""
    requests: int = 0
    tokens: int = 0
    inputs: int = 0
    saved_inputs: int = 0


def embed(runtime: Runtime, batch: Batch, reading: Reading) -> Embedded:
    """Embeds the batch with no connection held."""
    texts = {row.fingerprint: row.text for row in reading.to_embed.values() if row.fingerprint and row.text}
    done = Embedded()
    forced = {
        row.fingerprint for row in reading.to_embed.values() if row.fingerprint and batch.rows[row.key].force
    }
    known = [fingerprint for fingerprint in texts if fingerprint not in forced]
    if known:
        with runtime.database.transaction(read_only=True) as connection:
            done.vectors |= rows.reusable(connection, batch.shape, known)
    wanted = [(fingerprint, text) for fingerprint, text in texts.items() if fingerprint not in done.vectors]
    done.saved_inputs = len(reading.to_embed) - len(wanted)
    if wanted:
        try:
            embedder = runtime.embedder(batch.pipeline.provider)
            _halving(embedder, batch, wanted, done)
        except ProviderError as error:
            done.stopped_by = error
    return done


def _halving(embedder: Embedder, batch: Batch, wanted: Sequence[tuple[bytes, str]], done: Embedded) -> None:
    """Raises ProviderError where it is the provider and not a row."""
    reach(Failpoint.EMBED_CALLING)
    try:
        answer = embedder.embed(
            [text for _, text in wanted], batch.pipeline.spec, deadline=batch.until, lane=batch.lane
        )
    except _BISECTED as error:
        done.requests += 1
        _require_healthy(embedder, batch, error, done)
        if len(wanted) > 1:
            _halves(embedder, batch, wanted, done)
        else:
            done.failures[wanted[0][0]] = Failure(
                error.name, str(error), wanted[0][0], final=isinstance(error, InputRejected)
            )
        return
    reach(Failpoint.EMBED_ANSWERED)
    done.requests += answer.requests
    done.tokens += answer.tokens
    done.inputs += len(wanted) - len(answer.left)
    left = set(answer.left)
    for position, ((fingerprint, _), vector) in enumerate(zip(wanted, answer.vectors, strict=True)):
        if position not in left:
            done.vectors[fingerprint] = vector
    if answer.failure is not None:
        done.requests += 1
        if not isinstance(answer.failure, _BISECTED) or answer.failure.code == OUR_DEADLINE:
            raise answer.failure
        _halves(embedder, batch, [wanted[position] for position in answer.left], done)


def _halves(embedder: Embedder, batch: Batch, wanted: Sequence[tuple[bytes, str]], done: Embedded) -> None:
    middle = len(wanted) // 2
    for half in (wanted[:middle], wanted[middle:]):
        if half:
            _halving(embedder, batch, half, done)


def _require_healthy(embedder: Embedder, batch: Batch, error: ProviderError, done: Embedded) -> None:
    """Raises unless a harmless text succeeds right now: without this, one refused parameter would park a table."""
    try:
        answer = embedder.embed([PROBE_TEXT], batch.pipeline.spec, deadline=batch.until, lane=batch.lane)
    except InputRejected as refused:
        raise Misconfigured(
            "the provider refuses every text", status=refused.status, code=refused.code, hint=refused.hint
        ) from None
    except (RateLimited, Misconfigured):
        raise
    except ProviderError as failed:
        # an outage or our deadline is the truth, even where the text was refused a moment before
        raise (error if failed.code != OUR_DEADLINE and error.retryable else failed) from None
    done.requests += answer.requests
    done.tokens += answer.tokens
