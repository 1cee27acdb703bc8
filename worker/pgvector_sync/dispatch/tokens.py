"""Keys in Redis that are held for a limited time: a ringing bell, or a role that one process has.

Another program may have written any of these keys. So each script checks a key's type and lifetime first: a key
that this program can't have written counts as absent, and is overwritten.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from redis import Redis

# A key lives for at most ARGV[2] ms: one that would live longer, or forever, isn't ours.
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
local holder = redis.call('TYPE', KEYS[1])['ok'] == 'string' and redis.call('GET', KEYS[1])
if held and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
)
RELEASE = """
local holder = redis.call('TYPE', KEYS[1])['ok'] == 'string' and redis.call('GET', KEYS[1])
if holder == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""


@dataclass(frozen=True)
class Tokens:
    """The tokens of one database. `prefix` separates databases that share a Redis."""

    redis: Redis
    prefix: str

    def ring(self, bell: str, life: timedelta) -> bool:
        """Ring a bell until `silence`, for at most `life`; return False if it was ringing already."""
        return bool(self._script(RING, self._bell(bell), 1, milliseconds(life)) == 1)

    def silence(self, bell: str) -> None:
        """Allow a bell to ring again."""
        self.redis.delete(self._bell(bell))

    def take(self, role: str, holder: str, life: timedelta) -> bool:
        """Take or keep a role for `life` from now; return False if another process holds it."""
        return bool(self._script(TAKE, f"{self.prefix}:{role}", holder, milliseconds(life)) == 1)

    def release(self, role: str, holder: str) -> None:
        """Give up a role, so that another process can take it at once."""
        self._script(RELEASE, f"{self.prefix}:{role}", holder)

    def _bell(self, bell: str) -> str:
        return f"{self.prefix}:bell:{bell}"

    def _script(self, script: str, key: str, *arguments: str | int) -> Any:
        return self.redis.register_script(script)(keys=[key], args=arguments)


def milliseconds(duration: timedelta) -> int:
    return int(duration / timedelta(milliseconds=1))
