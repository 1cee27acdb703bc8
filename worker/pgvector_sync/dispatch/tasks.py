"""The Celery tasks. Their arguments are a pipeline's name or a run's id, never SQL.

Celery only wakes up workers. Attempts, backoff and leases are in Postgres, so Celery's retries are off, the next
poll makes up for a lost message, and a task that runs twice writes once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import wraps
from typing import Any
from uuid import uuid4

from celery import Celery, Task
from celery.worker.strategy import default as default_strategy
from kombu.exceptions import OperationalError as BrokerError
from kombu.serialization import dumps
from redis.exceptions import RedisError

from pgvector_sync.batch.process import process
from pgvector_sync.database import OUTAGE
from pgvector_sync.dispatch.doorbell import open_doorbell
from pgvector_sync.dispatch.messages import EMBED_BATCH, REEMBED, RUN, TICK, body_of, call, headers_of
from pgvector_sync.dispatch.queues import queue_depth, router_of
from pgvector_sync.dispatch.relay import DRAIN_FOR
from pgvector_sync.dispatch.ringing import take_turn
from pgvector_sync.engine import jobs
from pgvector_sync.engine.turn import Engine
from pgvector_sync.errors import MessageRefused, Refused, TaskFailed
from pgvector_sync.failpoint import Failpoint, reach
from pgvector_sync.model import Lane
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.runs.requests import request_reembed
from pgvector_sync.runs.run import carry_out
from pgvector_sync.runtime.bootstrap import process_runtime
from pgvector_sync.store import usage
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.event import Words
from pgvector_sync.telemetry.events.dispatch import MessageDropped
from pgvector_sync.telemetry.events.process import DatabaseUnavailable, RedisUnavailable
from pgvector_sync.telemetry.leaks import description_of, places_of

RUN_FOR = timedelta(seconds=20)
"""How long a run is processed per message; the relay rings again for the rest."""
REEMBED_EVERY = timedelta(hours=1)
TICK_EVERY = timedelta(seconds=10)
TICK_LIFE = timedelta(seconds=30)


@contextmanager
def _outages_pass() -> Iterator[None]:
    """An outage is not a failure: the rows wait, and the doorbell rings again when it is over."""
    try:
        yield
    except OUTAGE as error:
        emit(DatabaseUnavailable(sqlstate=error.sqlstate))
    except (RedisError, BrokerError) as error:
        emit(RedisUnavailable(error=type(error)))


def _without_leaks(task: Callable[..., None]) -> Callable[..., None]:
    """Replace errors of a task by TaskFailed: an app's own logging shows them, and Postgres quotes rows (G13)."""

    @wraps(task)
    def carried_out(*arguments: Any, **options: Any) -> None:
        try:
            return task(*arguments, **options)
        except Exception as error:  # noqa: BLE001
            failure = TaskFailed(f"{description_of(error)} at {places_of(error)}")
        raise failure  # outside the handler, or its context would be shown as well

    return carried_out


def embed_batch(self: Any, pipeline: str, lane: str, slot: int = 0, share: int | None = None) -> None:
    """Process one batch of a pipeline.

    A full batch rings for the next, so that a backlog doesn't wait for the poll.
    """
    reach(Failpoint.TASK_STARTED)
    doorbell = open_doorbell(self.app)
    with _outages_pass():
        doorbell.answered(f"{pipeline}:{lane}:{slot}")
    reach(Failpoint.TASK_ANSWERED)
    with _outages_pass():
        runtime = process_runtime()
        if runtime.admission.refused():
            return
        limit = runtime.settings.in_flight_batches
        share = min(share or limit, limit)
        outcome = process(runtime, pipeline, Lane(lane), share=share)
        if outcome is not None and outcome.full and slot < share:
            doorbell.ring_slot(pipeline, Lane(lane), slot, share)


def run(self: Any, run_id: int) -> None:
    """Process a run for RUN_FOR."""
    with _outages_pass():
        open_doorbell(self.app).answered(f"run:{run_id}")
    with _outages_pass():
        runtime = process_runtime()
        if not runtime.admission.refused():
            carry_out(runtime, run_id, until=Deadline.after(RUN_FOR))


def reembed(self: Any, pipeline: str) -> None:
    """Request a re-embed of a pipeline, for schedules of the user's own. Only rows that differ are paid for.

    Any program that can write to the broker can send this, so it is done at most once per hour.
    """
    del self
    with _outages_pass():
        try:
            runtime = process_runtime()
            runtime.admission.require()
            request_reembed(runtime.database, pipeline, not_within=REEMBED_EVERY)
        except Refused as refused:
            emit(MessageDropped(reason=Words(str(refused))))


def tick(self: Any) -> None:
    """The fallback for the relay: run one turn with all jobs, once per interval even if several beats run."""
    runtime = process_runtime()
    every = TICK_EVERY * 0.9
    with _outages_pass():
        if runtime.admission.refused():
            return
        with runtime.database.transaction() as connection:
            if not usage.take_tick(connection, "tick", uuid4(), every=every):
                return
        reach(Failpoint.TICK_TAKEN)
        engine = Engine(runtime.database, runtime.settings, jobs.ALL, drain_for=DRAIN_FOR)
        take_turn(engine, open_doorbell(self.app))


class BoundedTask(Task):  # type: ignore[misc]  # Celery has no types
    """A task that is sent only while its queue is empty, so that a day without workers leaves a single tick."""

    abstract = True
    failed_with: type[BaseException] | None = None
    """The error of Redis that prevented the last call."""

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """Send the task; return None if it wasn't sent. Requires the option `queue`."""
        try:
            if queue_depth(self.app, options["queue"]) > 0:
                self.failed_with = None
                return None
        except (BrokerError, RedisError, OSError) as error:
            self.failed_with = type(error)
            emit(RedisUnavailable(error=type(error)))
            return None
        self.failed_with = None
        return super().apply_async(*args, router=router_of(self.app), **options)


def strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Any:
    """Celery's own strategy, but for messages that are parsed and written anew, with any app and any broker."""
    handle = default_strategy(task, app, consumer, **options)

    def checked(message: Any, _body: Any, ack: Any, reject: Any, callbacks: Any, **more: Any) -> Any:
        headers, payload = message.headers, message.payload
        if isinstance(payload, dict):  # an app that is set to protocol 1
            headers, payload = payload, [payload.get("args"), payload.get("kwargs")]
        try:
            parsed = call(headers, payload)
        except MessageRefused as refused:
            emit(MessageDropped(reason=Words(str(refused))))
            reject()
            return None
        message.headers = headers_of(parsed, str(uuid4()))
        message.content_type, message.content_encoding, message.body = dumps(body_of(parsed), serializer="json")
        message._decoded_cache = body_of(parsed)  # noqa: SLF001  otherwise the old body would be used
        return handle(message, None, ack, reject, callbacks, **more)

    return checked


def add_to(app: Celery) -> None:
    """Register the tasks with an app. Its own defaults for tasks don't apply to them."""
    options = {
        "bind": True,
        "shared": False,  # not with other apps of the process
        "acks_late": True,
        "reject_on_worker_lost": False,
        "ignore_result": True,
        "store_errors_even_if_ignored": False,
        "track_started": False,
        "serializer": "json",
        "max_retries": 0,
        "rate_limit": None,
        "Strategy": f"{__name__}:strategy",
    }
    app.task(name=EMBED_BATCH, **options)(_without_leaks(embed_batch))
    app.task(name=RUN, **options)(_without_leaks(run))
    app.task(name=REEMBED, **options)(_without_leaks(reembed))
    app.task(name=TICK, base=BoundedTask, **options)(_without_leaks(tick))
