"""The limits of calls, batches, leases and processes, derived from one another and checked before anything starts.

a call < its batch's deadline < the end of its lease < Celery's soft limit < Celery's hard limit
"""

from __future__ import annotations

from datetime import timedelta

from pgvector_sync.errors import ConfigError
from pgvector_sync.settings import Settings

LONGEST_RUN = timedelta(minutes=2)
"""A run's lease ends then, whatever the deadline of batches is."""
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


def problems(settings: Settings) -> list[ConfigError]:
    """Each names the variables that can't work together, and says what would work."""
    found = [_call(settings), _renewal(settings), _lease(settings), _backoff(settings)]
    return [problem for problem in found if problem is not None]


def _call(settings: Settings) -> ConfigError | None:
    call, deadline = settings.provider_timeout, settings.deadline
    if "provider_timeout" not in settings.model_fields_set or call <= deadline / 3:
        return None  # left at its default, it follows the deadline
    return ConfigError(
        f"a call may take {_words(call)}, but its batch gives up after {_words(deadline)}, and must outlive a "
        "call that hangs to find out whose fault it is",
        where="PGVECTOR_SYNC_PROVIDER_TIMEOUT, PGVECTOR_SYNC_DEADLINE",
        hint=f"set PGVECTOR_SYNC_DEADLINE to {_words(call * 3)} or more, or PGVECTOR_SYNC_PROVIDER_TIMEOUT to "
        f"{_words(deadline / 3)} or less",
    )


def _renewal(settings: Settings) -> ConfigError | None:
    if settings.renew_every >= settings.lock_timeout * 2:
        return None
    return ConfigError(
        f"a lease of {_words(settings.lease)} is renewed every {_words(settings.renew_every)}: a wait of "
        f"{_words(settings.lock_timeout)} for a lock would hold that up",
        where="PGVECTOR_SYNC_LEASE, PGVECTOR_SYNC_LOCK_TIMEOUT",
        hint=f"set PGVECTOR_SYNC_LEASE to {_words(settings.lock_timeout * 10)} or more",
    )


def _lease(settings: Settings) -> ConfigError | None:
    if settings.lease <= settings.ends_after:
        return None
    usual = Settings.model_fields["lease"].default
    return ConfigError(
        f"a lease lasts {_words(settings.lease)}, and the longest batch {_words(settings.ends_after)}: leases are "
        "renewed, and rows of a killed worker would wait all that time",
        where="PGVECTOR_SYNC_LEASE, PGVECTOR_SYNC_DEADLINE",
        hint=f"set PGVECTOR_SYNC_LEASE to {_words(settings.ends_after)} or less, or unset it ({_words(usual)})",
    )


def _backoff(settings: Settings) -> ConfigError | None:
    first, longest = settings.backoff_first, settings.backoff_longest
    if first <= longest:
        return None
    return ConfigError(
        f"the first wait is {_words(first)}, longer than the longest, {_words(longest)}",
        where="PGVECTOR_SYNC_BACKOFF_FIRST, PGVECTOR_SYNC_BACKOFF_LONGEST",
        hint=f"set PGVECTOR_SYNC_BACKOFF_LONGEST to {_words(first)} or more",
    )


def require(settings: Settings) -> None:
    """Raises ConfigError where the limits can't work together: nothing should start and then buy in vain."""
    for problem in problems(settings):
        raise problem


def _words(duration: timedelta) -> str:
    return f"{duration.total_seconds():g} s"
