"""How sizes, durations and shares are printed."""

from __future__ import annotations

from datetime import timedelta

_UNITS = ("B", "kB", "MB", "GB", "TB")


def size(number: float) -> str:
    """Return a size in Postgres's units of 1,024: `7.8 GB`."""
    value = float(number)
    for unit in _UNITS:
        if value < 1_024 or unit == _UNITS[-1]:
            break
        value /= 1_024
    return f"{value:,.0f} {unit}" if unit == "B" or value >= 100 else f"{value:,.1f} {unit}"


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
