"""Spending: count what a batch has sent, bought and saved, in the transaction that ends it."""

from __future__ import annotations

from decimal import Decimal

from pgvector_sync.batch.bisection import Embedded
from pgvector_sync.batch.claim import Batch
from pgvector_sync.batch.slice import Written
from pgvector_sync.database import Connection
from pgvector_sync.embedding.prices import price_for
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import usage
from pgvector_sync.store.usage import Spent


def note_spending(
    runtime: Runtime, connection: Connection, batch: Batch, embedded: Embedded, written: Written | None = None
) -> None:
    """Add the batch to the counters. `written` is None if an exception has ended it."""
    price = price_for(batch.pipeline, runtime.settings) if embedded.tokens else None
    spent = Spent(
        requests=embedded.requests,
        tokens=embedded.tokens,
        usd=Decimal(0) if price is None else embedded.tokens * price / 1_000_000,
        inputs=embedded.inputs,
        saved_unchanged=len(written.unchanged) if written else 0,
        saved_equal=embedded.saved_equal,
        saved_stored=embedded.saved_stored,
        truncated_inputs=embedded.truncated_inputs,
        rows=written.acknowledged if written else 0,
        calls=tuple(embedded.calls.made),  # a thread whose call is interrupted may still add one
    )
    usage.note(connection, batch.pipeline, spent)
