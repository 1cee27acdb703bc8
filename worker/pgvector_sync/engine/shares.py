"""How many batches of each pipeline to process at once, so that pipelines share the slots fairly. Pure.

A slot is room for one batch in flight: a process or thread of a worker, or a thread of `sync`.
"""

from __future__ import annotations

from collections.abc import Iterable

from pgvector_sync.embedding.dialects import dialect_named
from pgvector_sync.model import Lane
from pgvector_sync.model.learned import batches_at_once
from pgvector_sync.runtime import default_batch_rows
from pgvector_sync.settings import Settings
from pgvector_sync.store.work import Due


def others_of(due: Due, lanes: Iterable[Due]) -> int:
    """Return how many pipelines, of all those in `lanes`, call another provider, or the same for another model.

    Those that share model and provider with `due` wait for the same answers anyway.
    """
    return len({item.pipeline for item in lanes if (item.provider, item.model) != (due.provider, due.model)})


def share_of(due: Due, lanes: Iterable[Due], *, slots: int, settings: Settings) -> int:
    """Return how many batches of the pipeline may be in flight for this lane, over all processes.

    lanes: those of all pipelines. slots: the number of slots of all workers; 0: not known yet.
    """
    remote = dialect_named(due.dialect).remote  # a remote provider may hang
    share = fair_share(slots, others_of(due, lanes) if remote else 0, limit=settings.in_flight_batches)
    if remote and due.lane is Lane.BULK:
        share = bulk_share(share, slots)
    return batches_at_once(share, due.parallel, live=due.lane is Lane.LIVE)


def batches_wanted(due: Due, *, share: int, settings: Settings) -> int:
    """Return how many more batches of a lane to begin: one, the probe, if the pipeline isn't active."""
    if due.state != "active":
        return min(due.rows, 1)
    batches = -(-due.rows // (due.batch_size or default_batch_rows(settings, due.lane)))
    return max(0, min(batches, share - due.in_flight))


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


def reconciles_at_once(slots: int) -> int:
    """Return how many reconciliations may be carried out at once. Half of the slots stay free of them."""
    return max(1, slots // 2)
