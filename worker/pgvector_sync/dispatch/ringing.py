"""Rings for the work that a turn of the engine has found, so that pipelines share the workers fairly."""

from __future__ import annotations

from pgvector_sync.dispatch.doorbell import Doorbell
from pgvector_sync.engine.shares import reconciles_at_once, share_of
from pgvector_sync.engine.turn import Engine, Turn
from pgvector_sync.failpoint import Failpoint, reach
from pgvector_sync.model.request import Kind
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
    pipelines = len({item.pipeline for item in due})
    slots = doorbell.slots.total() if due or turn.runs else 0
    for item in due:
        share = share_of(item, turn.due, slots=slots, settings=doorbell.settings)
        doorbell.ring(item, pipelines=pipelines, share=share)
    room = reconciles_at_once(slots) - turn.reconciling
    for run_id, kind, _ in turn.runs:
        if kind is Kind.RECONCILE:
            room -= 1
            if room < 0:
                continue
        doorbell.ring_run(run_id, kind)
