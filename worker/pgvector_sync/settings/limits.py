"""The limits of calls, batches, leases and processes, derived from one another and checked before anything starts.

a call < its batch's deadline < the end of its lease < Celery's soft limit < Celery's hard limit
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from pgvector_sync.errors import ConfigError
from pgvector_sync.settings import LONGEST_PAGE, Settings, variable

Amount = timedelta | int

LONGEST_RUN = timedelta(minutes=2)
"""A run's lease ends then, whatever the deadline of batches is."""
LONGEST_POLL = timedelta(seconds=1)
"""The relay's election and announcement outlast two of them (dispatch/relay.py, dispatch/doorbell.py)."""
TO_TIDY_UP = timedelta(seconds=10)
"""Between Celery's soft limit and its hard one, and before the soft one."""
TO_FINISH = timedelta(seconds=15)
"""Of a soft shutdown, besides the longest call: its answer is still written."""


def soft_task_limit(settings: Settings) -> timedelta:
    """Celery interrupts a task then. A batch has lost its lease before, and could write nothing any more."""
    return max(settings.ends_after, LONGEST_RUN) + TO_TIDY_UP


def hard_task_limit(settings: Settings) -> timedelta:
    """Celery kills the child then."""
    return soft_task_limit(settings) + TO_TIDY_UP


def soft_shutdown(settings: Settings) -> timedelta:
    """How long a worker that is asked to stop waits for its batches: a call that has just begun is answered."""
    return settings.longest_call + TO_FINISH


@dataclass(frozen=True, slots=True)
class Limit:
    """What a setting may be at most: derived from another setting, or a constant."""

    setting: str
    most: Callable[[Settings], Amount]
    because: str
    other: str | None = None
    """The setting that `most` follows from."""
    needs: Callable[[Settings], Amount | None] = lambda _: None
    """What `other` has to be for the value at hand; None where no value of it would do."""
    follows: bool = False
    """Left at its default, it is lowered without a word where the other requires it."""

    def problem(self, settings: Settings) -> ConfigError | None:
        """What is wrong with the value, and what would be right; None where it is."""
        given, most = getattr(settings, self.setting), self.most(settings)
        if given <= most or (self.follows and self.setting not in settings.model_fields_set):
            return None
        names = [variable(name) for name in (self.setting, self.other) if name]
        ways = [f"set {names[0]} to {_words(most)} or less"]
        if self.other is not None and (needed := self.needs(settings)) is not None:
            ways.append(f"{names[1]} to {_words(needed)} or more")
        of_the_other = f" with {names[1]} at {_words(getattr(settings, self.other))}" if self.other else ""
        return ConfigError(
            f"expected at most {_words(most)}{of_the_other}, got {_words(given)}: {self.because}",
            where=", ".join(names),
            hint=", or ".join(ways),
        )


LIMITS = (
    Limit(
        "provider_timeout",
        lambda s: s.deadline / 3,
        "a batch must outlive a request that hangs, to find out whose fault it is",
        other="deadline",
        needs=lambda s: s.provider_timeout * 3,
        follows=True,
    ),
    Limit(
        "row_timeout",
        lambda s: s.page_limit,
        "a statement that takes longer would be taken for one of a server that is gone",
        other="deadline",
        needs=lambda s: s.row_timeout * 9 if s.row_timeout <= LONGEST_PAGE else None,
        follows=True,
    ),
    Limit(
        "lock_timeout",
        lambda s: s.row_limit / 5,
        "a row whose table is locked would be taken for one that is slow",
        other="row_timeout",
        needs=lambda s: s.lock_timeout * 5 if s.lock_timeout * 5 <= s.page_limit else None,
    ),
    Limit(
        "lock_timeout",
        lambda s: s.lease / 10,
        "a wait for a lock would hold up the renewal of leases",
        other="lease",
        needs=lambda s: s.lock_timeout * 10,
    ),
    Limit(
        "lease",
        lambda s: s.ends_after,
        "leases are renewed, and with a longer one the rows of a killed worker would wait for nothing",
        other="deadline",
        needs=lambda s: s.lease * 3 / 4,
    ),
    Limit(
        "backoff_first",
        lambda s: s.backoff_longest,
        "waits would become shorter from one failure to the next",
        other="backoff_longest",
        needs=lambda s: s.backoff_first,
    ),
    Limit(
        "poll",
        lambda _: LONGEST_POLL,
        "once per poll the relay renews its election, and says that its worker is alive",
    ),
    Limit(
        "burst_rows",
        lambda s: s.drain_rows,
        "no slice of the drain would ever hold a load, which belongs in the bulk lane",
        other="drain_rows",
        needs=lambda s: s.burst_rows,
    ),
)
"""The order in which settings must stand to each other."""


def problems(settings: Settings) -> list[ConfigError]:
    """Each names the variables that can't work together, and says what would work."""
    return [problem for limit in LIMITS if (problem := limit.problem(settings)) is not None]


def require(settings: Settings) -> None:
    """Raises ConfigError where the limits can't work together: nothing should start and then buy in vain."""
    for problem in problems(settings):
        raise problem


def _words(amount: Amount) -> str:
    return f"{amount.total_seconds():g} s" if isinstance(amount, timedelta) else f"{amount:,}"
