"""Rings for the work that a turn of the engine has found, so that pipelines share the workers fairly."""

from __future__ import annotations

from pgvector_sync.dispatch.doorbell import Doorbell
from pgvector_sync.embedding.dialects import dialect_named
from pgvector_sync.engine.turn import Engine, Turn
from pgvector_sync.failpoint import Failpoint, reach
from pgvector_sync.model import Lane
from pgvector_sync.model.learned import batches_at_once
from pgvector_sync.store.poll import Signs


def take_turn(engine: Engine, doorbell: Doorbell, signs: Signs | None = None) -> int:
    """Run one turn and ring for what is due; return the number of outbox events moved.

    Used by the relay and by beat's tick.
    """
    settings = doorbell.settings
    turn = engine.turn(counted_rows=settings.in_flight_batches * settings.bulk_batch_size, signs=signs)
    reach(Failpoint.RELAY_DRAINED)
    ring_for(turn, doorbell)
    return turn.moved


def ring_for(turn: Turn, doorbell: Doorbell) -> None:
    """Ring for the due batches and runs of a turn."""
    due = [item for item in turn.due if item.rows]
    others = len({item.pipeline for item in turn.due}) - 1
    pipelines = len({item.pipeline for item in due})
    slots = doorbell.slots.total() if due else 0
    for item in due:
        remote = dialect_named(item.dialect).remote  # a remote provider may hang
        share = fair_share(slots, others if remote else 0, limit=doorbell.settings.in_flight_batches)
        if remote and item.lane is Lane.BULK:
            share = bulk_share(share, slots)
        share = batches_at_once(share, item.parallel, live=item.lane is Lane.LIVE)
        doorbell.ring(item, pipelines=pipelines, share=share)
    for run_id, kind, _ in turn.runs:
        doorbell.ring_run(run_id, kind)


def fair_share(slots: int, others: int, *, limit: int) -> int:
    """Return how many batches a pipeline may have in flight, if `others` must not wait for its provider.

    One of the `slots` is kept free for each of the others, up to half of all slots. Without others the result is
    `limit` whatever the slots, so that batches of a dead worker needn't be waited for. With 0 slots no worker has
    announced any yet.
    """
    return max(1, min(limit, slots - min(others, slots // 2))) if slots and others else limit


def bulk_share(share: int, slots: int) -> int:
    """Return how many of `share` batches may be of the bulk lane. One of three or more slots is kept for live."""
    return max(1, min(share, slots - 1)) if slots > 2 else share
