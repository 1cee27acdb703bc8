"""How many batches all workers can carry at once: each announces its own number in Redis, once a second.

What another program may have written there is removed or ignored, as in `tokens`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from redis import Redis

from pgvector_sync.dispatch.messages import LARGEST_SLOT
from pgvector_sync.dispatch.tokens import milliseconds

ANNOUNCED_FOR = timedelta(seconds=3)
"""How long a worker counts after it was last heard of."""
MOST_WORKERS = 1_000
"""That are read: more are somebody's invention."""
_SLOTS = re.compile(rb"(?:.*):(\d{1,4})", re.DOTALL)

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


@dataclass(frozen=True)
class Slots:
    """`prefix` keeps databases that share a Redis apart."""

    redis: Redis
    prefix: str

    def announce(self, worker: str, slots: int) -> None:
        """A worker says how many batches it can carry at once; forgotten by FLUSHALL, it says so again."""
        self._script(ANNOUNCE, milliseconds(ANNOUNCED_FOR), f"{worker}:{slots}")

    def withdraw(self, worker: str, slots: int) -> None:
        """A worker that ends no longer counts."""
        self.redis.zrem(self._key, f"{worker}:{slots}")

    def total(self) -> int:
        """Batches that all workers heard of lately can carry at once."""
        heard = self._script(HEARD, milliseconds(ANNOUNCED_FOR), MOST_WORKERS)
        members = heard if isinstance(heard, list) else []
        said = [_SLOTS.fullmatch(member) for member in members if isinstance(member, bytes)]
        return sum(min(int(slots[1]), LARGEST_SLOT) for slots in said if slots)

    @property
    def _key(self) -> str:
        return f"{self.prefix}:slots"

    def _script(self, script: str, *arguments: str | int) -> Any:
        return self.redis.register_script(script)(keys=[self._key], args=arguments)
