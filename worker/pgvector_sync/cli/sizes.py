"""How sizes and numbers of rows are printed and typed."""

from __future__ import annotations

import re

from pgvector_sync.errors import ConfigError

_UNITS = ("B", "kB", "MB", "GB", "TB")
_ROWS = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>[kKmMgG]?)")
_THOUSANDS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


def size(number: int) -> str:
    """Return a size in Postgres's units of 1,024: `7.8 GB`."""
    value = float(number)
    for unit in _UNITS:
        if value < 1_024 or unit == _UNITS[-1]:
            break
        value /= 1_024
    return f"{value:,.0f} {unit}" if unit == "B" or value >= 100 else f"{value:,.1f} {unit}"


def parse_rows(text: str) -> int:
    """Return a number of rows: `10M`, `250k`, `1_000`. Raises ConfigError."""
    match = _ROWS.fullmatch(text.replace("_", "").replace(",", "").strip())
    rows = 0 if match is None else round(float(match["number"]) * _THOUSANDS[match["unit"].lower()])
    if not rows:
        raise ConfigError(f"{text!r} isn't a number of rows", where="capacity", hint="write 250000, 250k or 10M")
    return rows
