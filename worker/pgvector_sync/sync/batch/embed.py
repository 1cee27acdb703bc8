"""Embed: equal texts once, stored texts not at all, and the rest with no connection held."""

from __future__ import annotations

from pgvector_sync.errors import ProviderError
from pgvector_sync.store import rows
from pgvector_sync.sync.batch.bisection import Bisection, Embedded
from pgvector_sync.sync.batch.claim import Batch
from pgvector_sync.sync.batch.read import Reading
from pgvector_sync.sync.runtime import Runtime


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
        embedder = runtime.embedder(batch.pipeline.provider)
        longest_call = runtime.settings.longest_call.total_seconds()
        try:
            Bisection(embedder, batch, done, longest_call=longest_call).ask(wanted)
        except ProviderError as error:
            done.stopped_by = error
    return done
