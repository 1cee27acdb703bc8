"""The time limits of calls, batches, leases and processes, derived from one another and checked at the start.

a call < its batch's deadline < the end of its lease < Celery's soft limit < Celery's hard limit
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from pgvector_sync.errors import ConfigError
from pgvector_sync.settings import LONGEST_PAGE, Settings
from pgvector_sync.settings.variables import variable

Amount = timedelta | int

LONGEST_RUN = timedelta(minutes=2)
"""When the lease of a run ends, whatever the deadline of batches is."""
LONGEST_POLL = timedelta(seconds=1)
"""The relay's election and announcement outlast two of them (dispatch/relay.py, dispatch/doorbell.py)."""
CLEANUP_TIME = timedelta(seconds=10)
"""The time between the end of a lease and Celery's soft limit, and between the soft limit and the hard one."""
WRITE_TIME = timedelta(seconds=15)
"""The part of a soft shutdown after the longest call, in which its answer is written."""


def soft_task_limit(settings: Settings) -> timedelta:
    """When Celery interrupts a task. A batch has lost its lease by then, and can't write any more."""
    return max(settings.ends_after, LONGEST_RUN) + CLEANUP_TIME


def hard_task_limit(settings: Settings) -> timedelta:
    """When Celery kills the child process of a task."""
    return soft_task_limit(settings) + CLEANUP_TIME


def soft_shutdown(settings: Settings) -> timedelta:
    """How long a worker that is asked to stop waits for its batches: long enough to finish a call just begun."""
    return settings.longest_call + WRITE_TIME


@dataclass(frozen=True, slots=True)
class Limit:
    """The maximum of a setting, derived from another setting or constant."""

    setting: str
    maximum: Callable[[Settings], Amount]
    reason: str
    other: str | None = None
    """The setting that `maximum` is derived from."""
    required: Callable[[Settings], Amount | None] = lambda _: None
    """The minimum of `other` for the current value; None if no value of it would be enough."""
    default_follows: bool = False
    """Whether the default is lowered silently if `other` requires it."""

    def problem(self, settings: Settings) -> ConfigError | None:
        """The error for a value that is too large; None if it isn't."""
        value, maximum = getattr(settings, self.setting), self.maximum(settings)
        if value <= maximum or (self.default_follows and self.setting not in settings.model_fields_set):
            return None
        names = [variable(name) for name in (self.setting, self.other) if name]
        fixes = [f"set {names[0]} to {_words(maximum)} or less"]
        if self.other is not None and (required := self.required(settings)) is not None:
            fixes.append(f"{names[1]} to {_words(required)} or more")
        context = f" with {names[1]} at {_words(getattr(settings, self.other))}" if self.other else ""
        return ConfigError(
            f"expected at most {_words(maximum)}{context}, got {_words(value)}: {self.reason}",
            where=", ".join(names),
            hint=", or ".join(fixes),
        )


LIMITS = (
    Limit(
        "provider_timeout",
        lambda s: s.deadline / 3,
        "a batch must outlive a request that hangs, to find out which row caused it",
        other="deadline",
        required=lambda s: s.provider_timeout * 3,
        default_follows=True,
    ),
    Limit(
        "row_timeout",
        lambda s: s.page_limit,
        "a slower statement would look like a server that is gone",
        other="deadline",
        required=lambda s: s.row_timeout * 9 if s.row_timeout <= LONGEST_PAGE else None,
        default_follows=True,
    ),
    Limit(
        "lock_timeout",
        lambda s: s.row_limit / 5,
        "a row of a locked table would look like a slow row",
        other="row_timeout",
        required=lambda s: s.lock_timeout * 5 if s.lock_timeout * 5 <= s.page_limit else None,
    ),
    Limit(
        "lock_timeout",
        lambda s: s.lease / 10,
        "a wait for a lock would delay the renewal of leases",
        other="lease",
        required=lambda s: s.lock_timeout * 10,
    ),
    Limit(
        "lease",
        lambda s: s.ends_after,
        "leases are renewed, and a longer one would only delay the rows of a killed worker",
        other="deadline",
        required=lambda s: s.lease * 3 / 4,
    ),
    Limit(
        "backoff_first",
        lambda s: s.backoff_longest,
        "the wait would become shorter from one failure to the next",
        other="backoff_longest",
        required=lambda s: s.backoff_first,
    ),
    Limit(
        "poll",
        lambda _: LONGEST_POLL,
        "the relay renews its election, and announces that its worker is alive, between two polls",
    ),
    Limit(
        "burst_rows",
        lambda s: s.drain_rows,
        "no slice of the drain could hold a large load, which belongs in the bulk lane",
        other="drain_rows",
        required=lambda s: s.burst_rows,
    ),
)
"""Every limit that a setting has besides the bounds of its field."""


def problems(settings: Settings) -> list[ConfigError]:
    """One error per limit that isn't met, each with the variables and the values that would work."""
    return [problem for limit in LIMITS if (problem := limit.problem(settings)) is not None]


def require(settings: Settings) -> None:
    """Raises ConfigError if a limit isn't met, before anything starts and pays for vectors that it can't store."""
    for problem in problems(settings):
        raise problem


def _words(amount: Amount) -> str:
    return f"{amount.total_seconds():g} s" if isinstance(amount, timedelta) else f"{amount:,}"
