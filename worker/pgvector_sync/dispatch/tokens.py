"""Keys in Redis that are held for a limited time: a bell that rings, an office that one process has.

What lies in Redis may have been written by another program. Each script looks at a key's type and life before it
believes it: what this program can't have written counts as absent, and is overwritten.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from redis import Redis

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


@dataclass(frozen=True)
class Tokens:
    """`prefix` keeps databases that share a Redis apart."""

    redis: Redis
    prefix: str

    def ring(self, bell: str, life: timedelta) -> bool:
        """Whether this bell didn't ring yet; it does now, until `silence` or for `life`."""
        return bool(self._script(RING, self._bell(bell), 1, milliseconds(life)) == 1)

    def silence(self, bell: str) -> None:
        """The bell may ring again."""
        self.redis.delete(self._bell(bell))

    def take(self, office: str, who: str, life: timedelta) -> bool:
        """Whether `who` holds an office of which there is one, for `life` from now on."""
        return bool(self._script(TAKE, f"{self.prefix}:{office}", who, milliseconds(life)) == 1)

    def let_go(self, office: str, who: str) -> None:
        """The next may take it at once."""
        self._script(LET_GO, f"{self.prefix}:{office}", who)

    def _bell(self, bell: str) -> str:
        return f"{self.prefix}:bell:{bell}"

    def _script(self, script: str, key: str, *arguments: str | int) -> Any:
        return self.redis.register_script(script)(keys=[key], args=arguments)


def milliseconds(duration: timedelta) -> int:
    return int(duration / timedelta(milliseconds=1))
