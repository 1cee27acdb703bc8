"""How durations and shares are written in advice."""

from __future__ import annotations

from datetime import timedelta

from pgvector_sync.index.words import size

__all__ = ["milliseconds", "share", "size"]


def milliseconds(duration: timedelta) -> str:
    """Return a duration as `0.4 ms`, `38 ms` or `2.1 s`."""
    value = duration / timedelta(milliseconds=1)
    if value >= 1_000:
        return f"{value / 1_000:,.1f} s"
    if value < 0.1:
        return f"{value:.1g} ms"
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def share(part: float) -> str:
    """Return a share as `12 %` or `0.4 %`."""
    percent = part * 100
    return f"{percent:.0f} %" if percent >= 10 or percent == round(percent) else f"{percent:.1f} %"
