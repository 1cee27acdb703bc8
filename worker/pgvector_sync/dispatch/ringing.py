"""Rings for what a turn of the engine has found, so that pipelines share the workers fairly."""

from __future__ import annotations

from pgvector_sync.dispatch.doorbell import Doorbell
from pgvector_sync.embedding.dialects import dialect_named
from pgvector_sync.engine.turn import Engine, Turn
from pgvector_sync.failpoint import Failpoint, reach
from pgvector_sync.model import Lane


def take_turn(engine: Engine, doorbell: Doorbell) -> int:
    """One turn, then bells for what is due; returns outbox events moved. The relay and beat's tick share it."""
    settings = doorbell.settings
    turn = engine.turn(counted_rows=settings.in_flight_batches * settings.bulk_batch_size)
    reach(Failpoint.RELAY_DRAINED)
    ring_for(turn, doorbell)
    return turn.moved


def ring_for(turn: Turn, doorbell: Doorbell) -> None:
    due = [item for item in turn.due if item.rows]
    others = len({item.pipeline for item in turn.due}) - 1
    pipelines = len({item.pipeline for item in due})
    slots = doorbell.slots.total() if due else 0
    for item in due:
        remote = dialect_named(item.dialect).remote  # it may hang
        share = fair_share(slots, others if remote else 0, most=doorbell.settings.in_flight_batches)
        if remote and item.lane is Lane.BULK:
            share = bulk_share(share, slots)
        doorbell.ring(item, pipelines=pipelines, share=share)
    for run_id, kind, _ in turn.runs:
        doorbell.ring_run(run_id, kind)


def fair_share(slots: int, others: int, *, most: int) -> int:
    """Batches that a pipeline may have in flight on `slots`, beside `others` that must not wait for its provider.

    One slot is kept free for each of them, up to half of all. Beside nobody it is `most`, whatever the slots: what
    a dead worker has held needn't be waited for. 0 slots: nobody has announced any yet.
    """
    return max(1, min(most, slots - min(others, slots // 2))) if slots and others else most


def bulk_share(share: int, slots: int) -> int:
    """How many of them may be of the bulk lane: one slot is kept free for live changes, where there are three."""
    return max(1, min(share, slots - 1)) if slots > 2 else share
