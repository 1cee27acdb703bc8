"""The Celery tasks: thin. Arguments are a pipeline's name or a run's id, never SQL."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

from pgvector_sync.bootstrap import process_runtime
from pgvector_sync.celery_app import TICK_SECONDS, app
from pgvector_sync.doorbell import EMBED_BATCH, RUN, TICK, open_doorbell
from pgvector_sync.model import Lane
from pgvector_sync.relay import look
from pgvector_sync.store import usage
from pgvector_sync.sync.batch import process
from pgvector_sync.sync.drain import Drain
from pgvector_sync.sync.fill import carry_out

RUN_FOR = timedelta(seconds=20)
"""How long one message keeps a fill going; the relay rings again for the rest."""


@app.task(name=EMBED_BATCH, bind=True)  # type: ignore[untyped-decorator]
def embed_batch(self: Any, pipeline: str, lane: str, slot: int = 0) -> None:
    """One batch of one pipeline; a full one rings for the next, so that a backlog doesn't wait for the poll."""
    doorbell = open_doorbell(self.app)
    doorbell.answered(f"{pipeline}:{lane}:{slot}")
    outcome = process(process_runtime(), pipeline, Lane(lane))
    if outcome is not None and outcome.full:
        doorbell.ring_slot(pipeline, Lane(lane), slot)


@app.task(name=RUN, bind=True)  # type: ignore[untyped-decorator]
def run(self: Any, run_id: int) -> None:
    """Carries a run on for a while."""
    open_doorbell(self.app).answered(f"run:{run_id}")
    carry_out(process_runtime(), run_id, until=time.monotonic() + RUN_FOR.total_seconds())


@app.task(name=TICK, bind=True)  # type: ignore[untyped-decorator]
def tick(self: Any) -> None:
    """The safety net: what the relay does, once an interval however many beats there are; and old rates go."""
    runtime = process_runtime()
    every = timedelta(seconds=TICK_SECONDS * 0.9)
    with runtime.database.transaction() as connection:
        if not usage.take_tick(connection, "tick", uuid4(), every=every):
            return
        usage.forget_minutes(connection)
    look(runtime.database, Drain(runtime.database, runtime.settings.drain_rows), open_doorbell(self.app))
