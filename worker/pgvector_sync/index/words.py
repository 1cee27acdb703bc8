"""How sizes are printed."""

from __future__ import annotations

_UNITS = ("B", "kB", "MB", "GB", "TB")


def size(number: float) -> str:
    """Return a size in Postgres's units of 1,024: `7.8 GB`."""
    value = float(number)
    for unit in _UNITS:
        if value < 1_024 or unit == _UNITS[-1]:
            break
        value /= 1_024
    return f"{value:,.0f} {unit}" if unit == "B" or value >= 100 else f"{value:,.1f} {unit}"
