"""What was learned from the answers of a provider's model: how large a request may be, and how many at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

BYTES_PER_TOKEN = 4
"""Roughly, in English prose: for settings to write down, which are in tokens."""
FIRST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Learned:
    """What limits requests besides what is declared or known. Without a value, no such limit was met.

    Sizes are in bytes of UTF-8: tokens can't be counted for every model. To add a value, add a field here, and
    a column of the same name to `pgvector_sync.learned` and to its statement.
    """

    max_inputs: int | None = None
    """The number of inputs that a request may have: the most that were answered."""
    refused_inputs: int | None = None
    """The least number of inputs that was refused. None: nothing is known to be too many yet, or any more."""
    max_bytes: int | None = None
    """The bytes that a request may have: the most that were answered."""
    refused_bytes: int | None = None
    """The least number of bytes that was refused."""
    bytes_per_second: int | None = None
    """How fast requests are answered, if one was too slow."""
    slow_bytes: int | None = None
    """The size of the request that was too slow."""
    parallel: int | None = None
    """The number of requests at once, if one got no answer in time."""
    limited_bytes: int | None = None
    """The size of a request that was rate limited, with none of half its size answered since: maybe too large."""
    failed_trials: int = 0
    """How often in a row a larger size was tried in vain. Each time the next trial is put off for longer."""
    version: int = field(default=0, compare=False)
    """The stored version that this one replaces. 0: none is stored."""
    due: bool = field(default=False, compare=False)
    """Whether larger sizes may be tried, because what was learned is old."""

    @property
    def wait(self) -> timedelta:
        """How long this stays as it is before larger sizes are tried."""
        return min(FIRST_WAIT * 2.0 ** min(self.failed_trials, 16), LONGEST_WAIT)

    def words(self) -> list[str]:
        """Describes each limit of requests: `32 inputs per request`."""
        limits = []
        if self.max_inputs is not None:
            limits.append(f"{self.max_inputs:,} inputs per request")
        if self.max_bytes is not None:
            limits.append(f"about {_tokens(self.max_bytes):,} tokens per request")
        if self.bytes_per_second is not None:
            limits.append(f"about {_tokens(self.bytes_per_second):,} tokens per second")
        if self.parallel is not None:
            limits.append(f"{self.parallel} requests at once" if self.parallel > 1 else "1 request at once")
        return limits

    def settings(self) -> dict[str, int]:
        """Returns the options of the provider's section that would have spared the learning."""
        limits = {}
        if self.max_inputs is not None:
            limits["max_inputs"] = self.max_inputs
        if self.max_bytes is not None:
            limits["max_request_tokens"] = _tokens(self.max_bytes)
        return limits

    def lines(self, provider: str) -> list[str]:
        """Returns these options as lines of the file."""
        return [f"providers.{provider}.{name} = {value}" for name, value in self.settings().items()]


def batches_at_once(share: int, parallel: int | None, *, live: bool) -> int:
    """Returns how many batches of a pipeline may be in flight: fewer for a slow provider, one more for live."""
    return share if parallel is None else min(share, parallel + live)


NOTHING_LEARNED = Learned()


def _tokens(octets: int) -> int:
    return max(1, octets // BYTES_PER_TOKEN)
