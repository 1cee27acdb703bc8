"""Figures in words, as the live view and its lines in a log write them. Pure."""

from __future__ import annotations

from datetime import timedelta

from pgvector_sync.model.counted import counted
from pgvector_sync.model.progress import Progress
from pgvector_sync.observe.status import PipelineStatus

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def span(duration: timedelta) -> str:
    """Write a duration with two significant units at most: `0.4 s`, `42 s`, `3 min`, `2 h 10 min`, `4 d 3 h`."""
    seconds = max(duration.total_seconds(), 0.0)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f} min"
    large, small = (_DAY, _HOUR) if seconds >= _DAY else (_HOUR, _MINUTE)
    first, second = int(seconds // large), int(seconds % large // small)
    names = ("d", "h") if large == _DAY else ("h", "min")
    return f"{first:,} {names[0]}" + (f" {second} {names[1]}" if second else "")


def coverage(status: PipelineStatus) -> float | None:
    """Return the share of rows that are fresh; None for an empty source, or one that was never analyzed."""
    return min(status.fresh / status.rows, 1.0) if status.rows else None


def percent(share: float) -> str:
    """Write a share rounded down, so that 100 % means all."""
    tenths = int(share * 1000)
    return f"{tenths // 10} %" if tenths % 10 == 0 or tenths < 990 else f"{tenths / 10:.1f} %"


def count(status: PipelineStatus, field: str) -> str:
    """Write a count, with a tilde if it is an estimate."""
    return ("~" if field in status.estimated else "") + f"{getattr(status, field):,}"


def progress(run: Progress, since: Progress | None = None) -> str:
    """Say how far a run is, and how long it will take at its speed since an earlier look at it."""
    if run.share is None or run.rows_total is None:
        return f"{counted(run.rows_done, 'row')} done"
    left = run.left(since)
    if run.rows_done >= run.rows_total:
        ending = "about to end"
    elif left is None:
        ending = "no row done yet" if not run.rows_done else "makes no progress"
    else:
        ending = f"{span(left)} left"
    return f"{percent(run.share)} of {counted(run.rows_total, 'row')}, {ending}"
