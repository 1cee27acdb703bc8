"""Doorbells: stateless messages that wake up a worker. A lost one costs latency, never a row (G7).

A bell rings only if its token is free and the queue is short, so that bells don't pile up while no worker runs:
Celery's `expires` alone leaves expired messages in the list. A token is a Redis key that expires, or that the task
deletes when it starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cache

from celery import Celery
from redis import Redis

from pgvector_sync.dispatch.messages import EMBED_BATCH, RUN
from pgvector_sync.dispatch.queues import Queues, queue_depth, queues_of, router_of
from pgvector_sync.dispatch.slots import Slots
from pgvector_sync.dispatch.tokens import Tokens
from pgvector_sync.engine.shares import batches_wanted
from pgvector_sync.model import Lane
from pgvector_sync.model.request import Kind
from pgvector_sync.redis_client import open_client
from pgvector_sync.settings import Settings, load_settings
from pgvector_sync.store.work import Due

BELL_LIFE = timedelta(seconds=10)
SOCKET_TIMEOUT = timedelta(seconds=5)


@dataclass(frozen=True)
class Doorbell:
    """Rings the bells for batches and runs."""

    app: Celery
    tokens: Tokens
    slots: Slots
    settings: Settings
    queues: Queues

    def ring(self, due: Due, *, pipelines: int, share: int) -> int:
        """Ring one bell per due batch, up to the pipeline's share; return how many rang.

        `pipelines` is the number of pipelines that share the queue. The limit on its length grows with it, so that
        each pipeline gets its turn.
        """
        wanted = batches_wanted(due, share=share, settings=self.settings)
        if wanted == 0:
            return 0
        wanted = min(wanted, share * pipelines - queue_depth(self.app, self.queues.of(due.lane)))
        rung = 0
        for slot in range(share):
            if rung >= wanted:
                break
            rung += self.ring_slot(due.pipeline, due.lane, slot, share)
        return rung

    def ring_slot(self, pipeline: str, lane: Lane, slot: int, share: int | None) -> bool:
        """Ring one bell; return False if it is ringing already. The claim that follows respects `share`."""
        return self._send(
            f"{pipeline}:{lane}:{slot}", EMBED_BATCH, [pipeline, lane.value, slot, share], self.queues.of(lane)
        )

    def ring_run(self, run_id: int, kind: Kind) -> bool:
        """Ring for a run that has work to do; return False if its bell is ringing already."""
        queue = self.queues.maintenance if kind is Kind.RECONCILE else self.queues.of(Lane.BULK)
        return self._send(f"run:{run_id}", RUN, [run_id], queue)

    def answered(self, bell: str) -> None:
        """Allow the bell to ring again, because its task has started."""
        self.tokens.silence(bell)

    def _send(self, bell: str, task: str, args: list[object], queue: str) -> bool:
        if not self.tokens.ring(bell, BELL_LIFE):
            return False
        self.app.send_task(
            task,
            args=args,
            queue=queue,
            router=router_of(self.app),
            expires=BELL_LIFE.total_seconds(),
            ignore_result=True,
        )
        return True


def open_doorbell(app: Celery) -> Doorbell:
    """Open the doorbell of an app. Raises ConfigError if no Redis is configured."""
    settings = load_settings()
    redis, prefix = open_redis(settings.redis()), settings.namespace()
    return Doorbell(app, Tokens(redis, prefix), Slots(redis, prefix), settings, queues_of(app) or Queues())


@cache
def open_redis(url: str) -> Redis:
    """Return the client for a URL, one per process. Raises ConfigError."""
    return open_client(url, timeout=SOCKET_TIMEOUT, health_check_interval=30)
