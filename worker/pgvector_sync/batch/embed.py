"""Embed: send each distinct text once, unless its vector is stored already. No connection is held meanwhile."""

from __future__ import annotations

from pgvector_sync.batch.bisection import Bisection, Embedded
from pgvector_sync.batch.claim import Batch
from pgvector_sync.batch.read import Reading
from pgvector_sync.errors import ProviderError
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import rows


def embed(runtime: Runtime, batch: Batch, reading: Reading, done: Embedded | None = None) -> Embedded:
    """Embed the batch's texts. What was bought is in `done`, even if an exception ends it."""
    passages = reading.to_embed.values()
    texts = {passage.fingerprint: passage.text for passage in passages}
    done = Embedded() if done is None else done
    forced = {passage.fingerprint for passage in passages if batch.rows[passage.key].force}
    known = [fingerprint for fingerprint in texts if fingerprint not in forced]
    if known:
        with runtime.database.transaction(read_only=True, by_key=True) as connection:
            done.vectors |= rows.reusable(connection, batch.shape, known)
    wanted = [(fingerprint, text) for fingerprint, text in texts.items() if fingerprint not in done.vectors]
    done.saved_equal, done.saved_stored = len(passages) - len(texts), len(texts) - len(wanted)
    if wanted or batch.probe:
        embedder = runtime.embedder(batch.pipeline.provider)
        bisection = Bisection(embedder, batch, done, longest_call=runtime.settings.longest_call)
        try:
            if batch.probe:
                bisection.probe()
            if wanted:
                bisection.embed(wanted)
        except ProviderError as error:
            done.stopped_by = error
        done.learned = bisection.sizes.end()
        runtime.learn_request(batch.pipeline, bisection.sizes.inputs_per_request)
    return done
