"""The Celery tasks: thin. Arguments are a pipeline's name or a run's id, never SQL.

Celery only rings: attempts, back-off and leases live in Postgres, so its retries are off, a lost message is made
up for by the next poll, and a task that runs twice writes once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

from celery import Celery, Task
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError

from pgvector_sync.bootstrap import process_runtime
from pgvector_sync.doorbell import EMBED_BATCH, REEMBED, RUN, TICK, open_doorbell, queue_depth
from pgvector_sync.failpoint import Failpoint, reach
from pgvector_sync.model import Lane
from pgvector_sync.operate import schedule, watch
from pgvector_sync.operate.requests import request_reembed
from pgvector_sync.relay import look
from pgvector_sync.store import usage
from pgvector_sync.store.database import OUTAGE
from pgvector_sync.sync.batch import process
from pgvector_sync.sync.drain import Drain
from pgvector_sync.sync.keeper import Expiry
from pgvector_sync.sync.run import carry_out
from pgvector_sync.telemetry import Event, log

RUN_FOR = timedelta(seconds=20)
"""How long one message keeps a run going; the relay rings again for the rest."""
TICK_SECONDS = 10.0
TICK_EXPIRES_SECONDS = 30


@contextmanager
def _outages_pass() -> Iterator[None]:
    """An outage is not a failed task: the rows wait, and the next doorbell comes when it is over."""
    try:
        yield
    except OUTAGE as error:
        log.warning(Event.DATABASE_UNAVAILABLE, sqlstate=error.sqlstate)
    except (RedisError, BrokerError) as error:
        log.warning(Event.REDIS_UNAVAILABLE, error=type(error).__name__)


def embed_batch(self: Any, pipeline: str, lane: str, slot: int = 0, share: int | None = None) -> None:
    """One batch of one pipeline; a full one rings for the next, so that a backlog doesn't wait for the poll."""
    reach(Failpoint.TASK_STARTED)
    doorbell = open_doorbell(self.app)
    with _outages_pass():
        doorbell.answered(f"{pipeline}:{lane}:{slot}")
    reach(Failpoint.TASK_ANSWERED)
    with _outages_pass():
        outcome = process(process_runtime(), pipeline, Lane(lane), share=share)
        if outcome is not None and outcome.full:
            doorbell.ring_slot(pipeline, Lane(lane), slot, share)


def run(self: Any, run_id: int) -> None:
    """Carries a run on for a while."""
    with _outages_pass():
        open_doorbell(self.app).answered(f"run:{run_id}")
    with _outages_pass():
        carry_out(process_runtime(), run_id, until=time.monotonic() + RUN_FOR.total_seconds())


def reembed(self: Any, pipeline: str) -> None:
    """Asks for a run over every row, for a schedule of the user's own; only what differs is paid for."""
    del self
    with _outages_pass():
        request_reembed(process_runtime().database, pipeline)


def tick(self: Any) -> None:
    """The safety net: what the relay does, once an interval however many beats there are; and old rates go."""
    runtime = process_runtime()
    every = timedelta(seconds=TICK_SECONDS * 0.9)
    with _outages_pass():
        with runtime.database.transaction() as connection:
            if not usage.take_tick(connection, "tick", uuid4(), every=every):
                return
            usage.forget_minutes(connection)
        reach(Failpoint.TICK_TAKEN)
        watch.look(runtime.database)
        schedule.look(runtime.database, runtime.settings)
        drain = Drain(runtime.database, runtime.settings.drain_rows, runtime.settings.burst_rows)
        look(runtime.database, drain, open_doorbell(self.app), Expiry(runtime.database, runtime.settings))


class BoundedTask(Task):  # type: ignore[misc]  # Celery has no types
    """Is sent only while its queue, which the caller names, is empty: a day without a worker leaves one tick."""

    abstract = True

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """None where it was not sent."""
        try:
            if queue_depth(self.app, options["queue"]) > 0:
                return None
        except (BrokerError, RedisError, OSError) as error:
            log.warning(Event.REDIS_UNAVAILABLE, error=type(error).__name__)
            return None
        return super().apply_async(*args, **options)


def add_to(app: Celery) -> None:
    """Registers the tasks with an app, whatever its own defaults for tasks are."""
    options = {
        "bind": True,
        "shared": False,  # with no other app of the process
        "acks_late": True,
        "reject_on_worker_lost": False,
        "ignore_result": True,
        "store_errors_even_if_ignored": False,
        "track_started": False,
        "serializer": "json",
        "max_retries": 0,
        "rate_limit": None,
    }
    app.task(name=EMBED_BATCH, **options)(embed_batch)
    app.task(name=RUN, **options)(run)
    app.task(name=REEMBED, **options)(reembed)
    app.task(name=TICK, base=BoundedTask, **options)(tick)
