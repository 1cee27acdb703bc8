"""Doorbells: messages without state that say "look, there is work". Lost ones cost latency, never a row (G7).

A bell rings only if its token is free (a Redis key that the task gives back when it starts, or that runs out) and
the queue is short, so that bells don't pile up while workers are away: Celery's `expires` alone leaves expired
messages in the list.

Whatever lies in Redis may have been written by somebody else. Each script looks at a key's type and life before it
believes it: what we can't have written counts as absent, and is overwritten.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from celery import Celery
from kombu.exceptions import ChannelError
from kombu.exceptions import OperationalError as BrokerError
from redis import Redis

from pgvector_sync.dispatch.messages import EMBED_BATCH, LARGEST_SLOT, RUN
from pgvector_sync.model import Lane
from pgvector_sync.redis_client import NOT_UNDERSTOOD, open_client
from pgvector_sync.settings import Settings, load_settings
from pgvector_sync.store.runs import Kind
from pgvector_sync.store.work import Due

MAINTENANCE = "maintenance"
BELL_LIFE = timedelta(seconds=10)
SOCKET_TIMEOUT = timedelta(seconds=5)
ANNOUNCED_FOR = timedelta(seconds=3)
"""How long a worker counts after it was last heard of."""
MOST_WORKERS = 1_000
"""That are read: more are somebody's invention."""
_SLOTS = re.compile(rb"(?:.*):(\d{1,4})", re.DOTALL)

# A key lives for ARGV[2] ms at most: one that would live longer, or for ever, is not ours.
_HELD = """
local left = redis.call('PTTL', KEYS[1])
local held = left >= 0 and left <= tonumber(ARGV[2])
"""
RING = (
    _HELD
    + """
if held then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
)
TAKE = (
    _HELD
    + """
local whose = redis.call('TYPE', KEYS[1])['ok'] == 'string' and redis.call('GET', KEYS[1])
if held and whose ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
)
LET_GO = """
local whose = redis.call('TYPE', KEYS[1])['ok'] == 'string' and redis.call('GET', KEYS[1])
if whose == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""
# By the clock of Redis alone. Nobody has announced anything in the future.
_HEARD = """
if redis.call('TYPE', KEYS[1])['ok'] ~= 'zset' then redis.call('DEL', KEYS[1]) end
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local first = string.format('%.6f', now - ARGV[1] / 1000)
local last = string.format('%.6f', now + 1)
"""
ANNOUNCE = (
    _HEARD
    + """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', first)
redis.call('ZREMRANGEBYSCORE', KEYS[1], last, '+inf')
redis.call('ZADD', KEYS[1], string.format('%.6f', now), ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""
)
HEARD = _HEARD + "return redis.call('ZRANGEBYSCORE', KEYS[1], first, last, 'LIMIT', 0, ARGV[2])"


def fair_share(slots: int, others: int, *, most: int) -> int:
    """Batches that a pipeline may have in flight on `slots`, beside `others` that must not wait for its provider.

    One slot is kept free for each of them, up to half of all. Beside nobody it is `most`, whatever the slots: what
    a dead worker has held needn't be waited for. 0 slots: nobody has announced any yet.
    """
    return max(1, min(most, slots - min(others, slots // 2))) if slots and others else most


def bulk_share(share: int, slots: int) -> int:
    """How many of them may be of the bulk lane: one slot is kept free for live changes, where there are three."""
    return max(1, min(share, slots - 1)) if slots > 2 else share


@dataclass(frozen=True, slots=True)
class Queues:
    """The names of our queues in one Celery app, which may have others with such names."""

    prefix: str = ""

    def of(self, lane: Lane) -> str:
        return f"{self.prefix}{lane.value}"

    @property
    def maintenance(self) -> str:
        return f"{self.prefix}{MAINTENANCE}"

    @property
    def all(self) -> tuple[str, ...]:
        """In the order in which they are served."""
        return self.of(Lane.LIVE), self.of(Lane.BULK), self.maintenance


def attach_queues(app: Celery, queues: Queues) -> None:
    app.pgvector_sync_queues = queues


def queues_of(app: Celery) -> Queues | None:
    """None for an app that has not registered us."""
    found: Queues | None = getattr(app, "pgvector_sync_queues", None)
    return found


@cache
def open_redis(url: str) -> Redis:
    """One client per process and URL. Raises ConfigError."""
    timeout = SOCKET_TIMEOUT.total_seconds()
    return open_client(url, timeout=timeout, health_check_interval=30)


def queue_depth(app: Celery, queue: str) -> int:
    """Messages waiting in a queue. Raises what kombu and redis-py raise where the broker is away."""
    with app.connection_for_write() as connection:
        try:
            return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
        except ChannelError:  # nobody has declared it yet
            return 0
        except NOT_UNDERSTOOD as error:
            raise BrokerError(f"not the answer of a broker ({type(error).__name__})") from None


@dataclass(frozen=True)
class Doorbell:
    """Rings for batches and runs."""

    app: Celery
    redis: Redis
    prefix: str
    settings: Settings
    queues: Queues

    def ring(self, due: Due, *, pipelines: int, share: int) -> int:
        """As many bells as there are batches due, within the pipeline's share; returns how many rang.

        `pipelines` is how many share the queue: the ceiling grows with them, so that each has its turn.
        """
        default = self.settings.live_batch_size if due.lane is Lane.LIVE else self.settings.bulk_batch_size
        batches = -(-due.rows // (due.batch_size or default))
        wanted = 1 if due.state != "active" else min(batches, share - due.in_flight)
        if wanted <= 0 or (due.state != "active" and due.rows == 0):
            return 0
        wanted = min(wanted, share * pipelines - queue_depth(self.app, self.queues.of(due.lane)))
        rung = 0
        for slot in range(share):
            if rung >= wanted:
                break
            rung += self.ring_slot(due.pipeline, due.lane, slot, share)
        return rung

    def ring_slot(self, pipeline: str, lane: Lane, slot: int, share: int | None) -> bool:
        """False if this bell rings already. The claim that it leads to keeps to `share`."""
        return self._send(
            f"{pipeline}:{lane}:{slot}", EMBED_BATCH, [pipeline, lane.value, slot, share], self.queues.of(lane)
        )

    def ring_run(self, run_id: int, kind: Kind) -> bool:
        """A run has something to do."""
        queue = self.queues.maintenance if kind is Kind.RECONCILE else self.queues.of(Lane.BULK)
        return self._send(f"run:{run_id}", RUN, [run_id], queue)

    def answered(self, bell: str) -> None:
        """The task has started: the bell may ring again."""
        self.redis.delete(self._token(bell))

    def announce(self, worker: str, slots: int) -> None:
        """A worker says how many batches it can carry at once; forgotten by FLUSHALL, it says so again."""
        self._script(ANNOUNCE, self._slots, _milliseconds(ANNOUNCED_FOR), f"{worker}:{slots}")

    def withdraw(self, worker: str, slots: int) -> None:
        """A worker that ends no longer counts."""
        self.redis.zrem(self._slots, f"{worker}:{slots}")

    def slots(self) -> int:
        """Batches that all workers heard of lately can carry at once."""
        heard = self._script(HEARD, self._slots, _milliseconds(ANNOUNCED_FOR), MOST_WORKERS)
        members = heard if isinstance(heard, list) else []
        said = [_SLOTS.fullmatch(member) for member in members if isinstance(member, bytes)]
        return sum(min(int(slots[1]), LARGEST_SLOT) for slots in said if slots)

    def take(self, office: str, who: str, life: timedelta) -> bool:
        """Whether `who` holds an office of which there is one, for `life` from now on."""
        return bool(self._script(TAKE, f"{self.prefix}:{office}", who, _milliseconds(life)) == 1)

    def let_go(self, office: str, who: str) -> None:
        """The next may take it at once."""
        self._script(LET_GO, f"{self.prefix}:{office}", who)

    @property
    def _slots(self) -> str:
        return f"{self.prefix}:slots"

    def _token(self, bell: str) -> str:
        return f"{self.prefix}:bell:{bell}"

    def _send(self, bell: str, task: str, args: list[object], queue: str) -> bool:
        if self._script(RING, self._token(bell), 1, _milliseconds(BELL_LIFE)) != 1:
            return False
        self.app.send_task(task, args=args, queue=queue, expires=BELL_LIFE.total_seconds(), ignore_result=True)
        return True

    def _script(self, script: str, key: str, *arguments: str | int) -> Any:
        return self.redis.register_script(script)(keys=[key], args=arguments)


def _milliseconds(duration: timedelta) -> int:
    return int(duration / timedelta(milliseconds=1))


def open_doorbell(app: Celery) -> Doorbell:
    """Raises ConfigError where no Redis is configured."""
    settings = load_settings()
    return Doorbell(app, open_redis(settings.redis()), settings.namespace(), settings, queues_of(app) or Queues())
