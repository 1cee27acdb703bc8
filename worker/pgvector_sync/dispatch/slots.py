"""How many batches all workers can run at once: each announces its own number in Redis, once per second.

As in `tokens`, what another program may have written there is removed or ignored.
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
"""How long a worker counts after its last announcement."""
MAX_WORKERS = 1_000
"""The number of announcements that are read, in case another program has written more."""
_SLOTS = re.compile(rb"(?:.*):(\d{1,4})", re.DOTALL)

# With the clock of Redis only. Announcements in the future can't be real.
_RECENT = """
if redis.call('TYPE', KEYS[1])['ok'] ~= 'zset' then redis.call('DEL', KEYS[1]) end
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local first = string.format('%.6f', now - ARGV[1] / 1000)
local last = string.format('%.6f', now + 1)
"""
ANNOUNCE = (
    _RECENT
    + """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', first)
redis.call('ZREMRANGEBYSCORE', KEYS[1], last, '+inf')
redis.call('ZADD', KEYS[1], string.format('%.6f', now), ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""
)
RECENT = _RECENT + "return redis.call('ZRANGEBYSCORE', KEYS[1], first, last, 'LIMIT', 0, ARGV[2])"


@dataclass(frozen=True)
class Slots:
    """The announced slots of all workers. `prefix` separates databases that share a Redis."""

    redis: Redis
    prefix: str

    def announce(self, worker: str, slots: int) -> None:
        """Announce how many batches a worker can run at once. Repeated, so that it survives FLUSHALL."""
        self._script(ANNOUNCE, milliseconds(ANNOUNCED_FOR), f"{worker}:{slots}")

    def withdraw(self, worker: str, slots: int) -> None:
        """Remove a worker that is stopping."""
        self.redis.zrem(self._key, f"{worker}:{slots}")

    def total(self) -> int:
        """Return how many batches all workers with a recent announcement can run at once."""
        recent = self._script(RECENT, milliseconds(ANNOUNCED_FOR), MAX_WORKERS)
        members = recent if isinstance(recent, list) else []
        matches = [_SLOTS.fullmatch(member) for member in members if isinstance(member, bytes)]
        return sum(min(int(match[1]), LARGEST_SLOT) for match in matches if match)

    @property
    def _key(self) -> str:
        return f"{self.prefix}:slots"

    def _script(self, script: str, *arguments: str | int) -> Any:
        return self.redis.register_script(script)(keys=[self._key], args=arguments)
