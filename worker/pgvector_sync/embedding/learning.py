"""How sizes of requests are learned: from what is known and an outcome, each function returns what is known then.

These functions are pure. Three kinds of outcome teach something:

- A request was refused, and all its texts were answered in smaller requests: it was too large. The limit is then
  searched between the largest request that was answered and the smallest that was refused.
- A request got no answer in time, or took long: requests are made as small as the provider's speed demands.
- A request was answered that is larger than what was known to be possible: the limit is raised.

What was learned is tried again after a while, and more and more rarely if the trials fail.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from pgvector_sync.model.learned import BYTES_PER_TOKEN, Learned

if TYPE_CHECKING:
    from pgvector_sync.embedding.dialects.dialect import Limits

MOST_INPUTS = 2_048
MOST_BYTES = 1_200_000
"""A limit that has grown this large is forgotten: hardly any request is larger."""
PRECISION = 0.05
"""How far above the largest answered size the smallest refused one may be. Until then, sizes between are tried."""
TARGET_SHARE = 1 / 3
"""The share of a call's time limit that a request to a slow provider is meant to take."""
SLOW_SHARE = 1 / 2
"""The share of a call's time limit from which a request was too slow. It is above TARGET_SHARE, so that ordinary
fluctuations change nothing."""
FASTER = 1.25
"""By how much an answer must be faster than expected to change what is known."""
SAME_SIZE = 0.9
"""The share of a request's bytes from which another one counts as equally large: texts can't be cut to fit."""
MOST_PARALLEL = 32
"""Requests at once from which on there is no limit: four for each of eight batches."""
BATCHES_AT_ONCE = 8
"""Up to this number, requests at once are batches in flight with one request each."""


class Size(NamedTuple):
    """The size of a request."""

    inputs: int
    octets: int


def answered(known: Learned, size: Size, took: timedelta, longest_call: timedelta) -> Learned:
    """A request of this size was answered."""
    known = _timed(_rate_was_the_reason(known, size), size, took, longest_call)
    return _raised(known, size)


def refused(known: Learned, size: Size, fits: Size, *, by_quota: bool = False) -> Learned:
    """A request was refused, and its texts were answered in requests of at most `fits`.

    Inputs are held responsible if a request with as many had not been answered before, otherwise bytes. A quota
    counts tokens, and so bytes.
    """
    if not by_quota and size.inputs > (known.max_inputs or 0):
        return replace(
            known,
            max_inputs=max(fits.inputs, known.max_inputs or 0),
            refused_inputs=min(size.inputs, known.refused_inputs or size.inputs),
        )
    # If more bytes were answered before, that no longer counts: tokens per byte vary, and limits change.
    before = known.max_bytes if known.max_bytes and known.max_bytes < size.octets else 0
    refused_bytes = min(size.octets, known.refused_bytes or size.octets)
    return replace(
        known,
        max_bytes=max(fits.octets, before),
        refused_bytes=refused_bytes,
        # A quota is confirmed by a second refusal: the first one may have come from a rate.
        limited_bytes=refused_bytes if by_quota and known.max_bytes is None else None,
    )


def was_refused(known: Learned, size: Size) -> bool:
    """Whether a request of this size is known to be refused, so that it can only be a trial."""
    too_many = known.refused_inputs is not None and size.inputs >= known.refused_inputs
    return too_many or (known.refused_bytes is not None and size.octets >= known.refused_bytes)


def tried_in_vain(known: Learned) -> Learned:
    """A trial taught nothing new: the next one has to wait for longer."""
    return replace(known, failed_trials=known.failed_trials + 1)


def timed_out(known: Learned, size: Size, limit: timedelta) -> Learned:
    """A request got no answer within the limit. One with a single text can't be smaller, so it teaches nothing."""
    if size.inputs == 1:
        return known
    speed = max(1, int(size.octets / limit.total_seconds() / 2))
    return replace(
        known,
        bytes_per_second=min(speed, known.bytes_per_second or speed),
        slow_bytes=max(size.octets, known.slow_bytes or 0),
        parallel=1,
        failed_trials=known.failed_trials + 1,
    )


def rate_limited(known: Learned, size: Size) -> Learned:
    """A request was rate limited, and none of half its size was answered: it may be larger than a quota."""
    if size.inputs == 1 or known.limited_bytes is not None:
        return known
    return replace(known, limited_bytes=size.octets)


def tests_a_quota(known: Learned, size: Size) -> bool:
    """Whether a request that is rate limited is tried in parts at once, instead of waiting.

    That is so if it is larger than what was answered before, or if waiting didn't help.
    """
    if size.inputs == 1:
        return False
    if known.max_bytes is not None and size.octets > known.max_bytes:
        return True
    return (
        known.limited_bytes is not None and not _is_unconfirmed(known) and (known.failed_trials == 0 or known.due)
    )


def more_at_once(known: Learned) -> Learned:
    """A batch of several texts went as expected: after a while, try more requests at once."""
    if known.parallel is None or not known.due:
        return known
    more = known.parallel * 2
    return replace(known, parallel=more if more < MOST_PARALLEL else None)


def limits_of(known: Learned, limits: Limits, longest_call: timedelta) -> Limits:
    """Return the limits, lowered to what was learned."""
    parallel = limits.parallel_requests
    if known.parallel is not None:
        parallel = min(parallel, max(1, known.parallel // BATCHES_AT_ONCE))
    return replace(
        limits,
        max_inputs=min(limits.max_inputs, known.max_inputs or limits.max_inputs),
        max_request_bytes=_least(known.max_bytes, batch_bytes(known, longest_call * TARGET_SHARE)),
        parallel_requests=parallel,
    )


def limits_of_trial(known: Learned, limits: Limits, longest_call: timedelta) -> Limits | None:
    """Return the limits of a request that tries a larger size than is known to be possible; None: no trial."""
    inputs = _next(known.max_inputs, known.refused_inputs, due=known.due)
    octets = _next(known.max_bytes, known.refused_bytes, due=known.due)
    if _is_unconfirmed(known):
        octets = known.refused_bytes
    if inputs is None and octets is None:
        return None
    tried = replace(known, max_inputs=inputs or known.max_inputs, max_bytes=octets or known.max_bytes)
    return limits_of(tried, limits, longest_call)


def batch_bytes(known: Learned, time: timedelta) -> int | None:
    """Return how many bytes of text are answered in a time, with one request at once; None: not known."""
    return None if known.bytes_per_second is None else max(1, int(known.bytes_per_second * time.total_seconds()))


def tokens_in_time(known: Learned, longest_call: timedelta) -> int | None:
    """Return roughly how many tokens a request to a slow provider has; None if it isn't slow."""
    octets = batch_bytes(known, longest_call * TARGET_SHARE)
    return None if octets is None else max(1, octets // BYTES_PER_TOKEN)


def _is_unconfirmed(known: Learned) -> bool:
    """Whether a limit of bytes comes from a rate limit, and the size that was refused hasn't been tried again."""
    return known.limited_bytes is not None and known.limited_bytes == known.refused_bytes


def _rate_was_the_reason(known: Learned, size: Size) -> Learned:
    """Forget a suspected quota if a request was answered that it would have refused."""
    if known.limited_bytes is None:
        return known
    if _is_unconfirmed(known):
        if size.octets < known.limited_bytes * SAME_SIZE:
            return known
        return replace(known, max_bytes=None, refused_bytes=None, limited_bytes=None, failed_trials=0)
    return replace(known, limited_bytes=None, failed_trials=0) if size.octets * 2 >= known.limited_bytes else known


def _raised(known: Learned, size: Size) -> Learned:
    if known.max_inputs is not None and size.inputs > known.max_inputs:
        most, least_refused = _above(size.inputs, known.refused_inputs, MOST_INPUTS)
        trials = 0 if least_refused is None else known.failed_trials
        known = replace(known, max_inputs=most, refused_inputs=least_refused, failed_trials=trials)
    if known.max_bytes is not None and size.octets > known.max_bytes:
        most, least_refused = _above(size.octets, known.refused_bytes, MOST_BYTES)
        trials = 0 if least_refused is None else known.failed_trials
        known = replace(known, max_bytes=most, refused_bytes=least_refused, failed_trials=trials)
    return known


def _above(answered_size: int, least_refused: int | None, most: int) -> tuple[int | None, int | None]:
    """Return the limit and the least refused size after a larger one was answered."""
    if answered_size >= most:
        return None, None
    return answered_size, least_refused if least_refused and least_refused > answered_size else None


def _timed(known: Learned, size: Size, took: timedelta, longest_call: timedelta) -> Learned:
    speed = max(1, int(size.octets / max(took.total_seconds(), 0.001)))
    if took > longest_call * SLOW_SHARE and size.inputs > 1:
        slower = known.bytes_per_second is None or speed < known.bytes_per_second
        at_once = known.parallel or 1
        return replace(
            known,
            bytes_per_second=min(speed, known.bytes_per_second or speed),
            slow_bytes=known.slow_bytes or size.octets,
            # more requests at once made each of them slower
            parallel=at_once // 2 if slower and at_once > 1 else known.parallel,
            failed_trials=known.failed_trials + (slower and at_once > 1),
        )
    if known.bytes_per_second is None or speed < known.bytes_per_second * FASTER:
        return known
    if known.failed_trials > 1 and not known.due:
        # Small requests were fast before, and larger ones got no answer. Each may be paid for: grow step by step.
        speed = min(speed, known.bytes_per_second * 2)
    if known.slow_bytes is None or speed * (longest_call * SLOW_SHARE).total_seconds() >= known.slow_bytes:
        trials = 0 if known.due else known.failed_trials
        return replace(known, bytes_per_second=None, slow_bytes=None, parallel=None, failed_trials=trials)
    return replace(known, bytes_per_second=speed)


def _next(fits: int | None, least_refused: int | None, *, due: bool) -> int | None:
    """Return the next size to try, None if there is nothing to find out."""
    if fits is None:
        return None
    if least_refused is None:
        return fits * 2
    if least_refused - fits > max(1, fits * PRECISION):
        return min(fits * 2, (fits + least_refused) // 2)
    return fits * 2 if due else None


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)
