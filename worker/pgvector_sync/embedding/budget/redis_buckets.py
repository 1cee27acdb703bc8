"""Buckets in Redis, shared by all workers. While Redis is away, each process has buckets of its own (G7)."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from pgvector_sync.embedding.budget.bucket import LONGEST_PAUSE, Draw, LocalBuckets, Verb
from pgvector_sync.redis_client import open_client
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.process import RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT = timedelta(milliseconds=500)
"""How long a call waits for a Redis that hangs."""
_LONGEST_PAUSE = LONGEST_PAUSE.total_seconds()
RECONNECT_AFTER = timedelta(seconds=5)
"""How long after a failure Redis is tried again."""

# The arithmetic of `bucket.draw`, with only the clock of Redis, since the clocks of workers differ. A bucket
# expires when it is full again, since a missing bucket counts as full. So FLUSHALL costs at most one capacity.
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local verb, pause, longest = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local is_hash = redis.call('TYPE', KEYS[1])['ok'] == 'hash'
local at = is_hash and tonumber(redis.call('HGET', KEYS[1], 'at'))
if not (at and at >= 0 and at <= now + longest) then
  redis.call('DEL', KEYS[1])
  at = now
end
local passed = math.max(now - at, 0)
local wait = math.max(at - now, 0)
local short, full_in = 0, 0
local after = {}
for i = 4, #ARGV, 6 do
  local gauge, capacity, rate = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local floor, cost, deepest = tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4]), tonumber(ARGV[i + 5])
  local level = tonumber(redis.call('HGET', KEYS[1], gauge))
  if not level or level ~= level then level = capacity end
  level = math.min(math.max(level, -deepest) + passed * rate, capacity)
  short = math.max(short, (floor - level) / rate)
  if verb == 'block' then level = math.min(level, 0) end
  level = math.min(level - cost, capacity)
  full_in = math.max(full_in, (capacity - level) / rate)
  after[#after + 1] = gauge
  after[#after + 1] = string.format('%.6f', level)
end
if verb == 'take' and wait + short > 0 then return string.format('%.6f', wait + short) end
at = math.max(at, now + math.min(pause, longest))
redis.call('HSET', KEYS[1], 'at', string.format('%.6f', at), unpack(after))
redis.call('PEXPIRE', KEYS[1], math.ceil((at - now + full_in) * 1000) + 1)
return '0'
"""


class RedisBuckets:
    """`Buckets` in Redis. `prefix` separates databases that share a Redis. Connects at the first use."""

    def __init__(self, url: str, *, prefix: str) -> None:
        self._redis = open_client(url, timeout=TIMEOUT, retry=Retry(NoBackoff(), 0))
        self._script = self._redis.register_script(SCRIPT)
        self._prefix = prefix
        self._fallback: LocalBuckets | None = None
        self._retry_at = 0.0

    def draw(self, verb: Verb, name: str, draws: Sequence[Draw], *, pause: float = 0.0) -> float:
        fallback = self._fallback
        if fallback is not None and time.monotonic() < self._retry_at:
            return fallback.draw(verb, name, draws, pause=pause)
        try:
            wait = _seconds(
                self._script(
                    keys=[f"{self._prefix}:budget:{name}"],
                    args=[
                        verb.value,
                        pause,
                        _LONGEST_PAUSE,
                        *(argument for gauge in draws for argument in _arguments(gauge)),
                    ],
                ),
                draws,
            )
        except (RedisError, ValueError) as error:
            if fallback is None:
                emit(RedisUnavailable(error=type(error)))
                # Empty, since the shared bucket may just have been spent and every process starts its own now.
                fallback = LocalBuckets(full=False)
            self._fallback, self._retry_at = fallback, time.monotonic() + RECONNECT_AFTER.total_seconds()
            return fallback.draw(verb, name, draws, pause=pause)
        self._fallback = None
        return wait

    def close(self) -> None:
        self._redis.close()


def _arguments(draw: Draw) -> tuple[str | float, ...]:
    return draw.name, draw.capacity, draw.rate, draw.floor, draw.cost, draw.deepest


def _seconds(reply: object, draws: Sequence[Draw]) -> float:
    """Return the script's answer. Raises ValueError for a reply that it can't have given."""
    wait = float(reply) if isinstance(reply, bytes) else -1.0
    longest = _LONGEST_PAUSE + max(((gauge.floor + gauge.deepest) / gauge.rate for gauge in draws), default=0.0)
    if not 0 <= wait <= longest + 1:
        raise ValueError("unexpected reply of the budget script")
    return wait
