"""Rehearse: try the write of a row, and roll it back, before the row is bought again.

A row that the target refuses, or that the application keeps locked, is paid for once and not once per attempt. A
pipeline that was stopped by its target buys nothing until a write would succeed.
"""

from __future__ import annotations

from pgvector_sync.batch.claim import Batch
from pgvector_sync.batch.decide import Prepared
from pgvector_sync.batch.read import Reading
from pgvector_sync.batch.refusal import placeholder_vector
from pgvector_sync.batch.write import Writing
from pgvector_sync.model import Key
from pgvector_sync.runtime import Runtime


def rehearse(runtime: Runtime, batch: Batch, reading: Reading) -> set[Key]:
    """Try the writes of rows that have had an attempt, or that probe a stopped pipeline.

    Rows whose write fails are moved to `reading.failed`. Returns locked rows, which must not be bought now.
    Raises DatabaseRefuses if the target refuses every row.
    """
    vector = placeholder_vector(batch)
    again = [
        Prepared(key, passage, vector, force=True)
        for key, passage in reading.to_embed.items()
        if batch.rows[key].attempts > 1 or batch.probe
    ]
    if not again:
        return set()
    tried = Writing(runtime, batch, again, rehearsal=True).run()
    for key in (*tried.failed, *tried.held_up):
        del reading.to_embed[key]
    reading.failed |= tried.failed
    return tried.held_up
