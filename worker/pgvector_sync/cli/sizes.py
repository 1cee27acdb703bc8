"""How sizes and numbers of rows are typed."""

from __future__ import annotations

import re

from pgvector_sync.errors import ConfigError

_ROWS = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>[kKmMgG]?)")
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kKmMgGtT][iI]?[bB]?)")
_BYTES = {
    f"{unit}{end}": 1_024**power for power, unit in enumerate("kmgt", start=1) for end in ("", "b", "i", "ib")
}
_LEAST_MEMORY = 1_024 * 1_024
_THOUSANDS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


def parse_rows(text: str) -> int:
    """Return a number of rows: `10M`, `250k`, `1_000`. Raises ConfigError."""
    match = _ROWS.fullmatch(text.replace("_", "").replace(",", "").strip())
    rows = 0 if match is None else round(float(match["number"]) * _THOUSANDS[match["unit"].lower()])
    if not rows:
        raise ConfigError(f"{text!r} isn't a number of rows", where="--rows", hint="write 250000, 250k or 10M")
    return rows


def parse_bytes(text: str, option: str = "--memory") -> int:
    """Return a size in bytes: `8GB`, `512MB`. Raises ConfigError."""
    match = _SIZE.fullmatch(text.replace("_", "").replace(",", "").strip())
    number = 0 if match is None else round(float(match["number"]) * _BYTES[match["unit"].lower()])
    if number < _LEAST_MEMORY:
        raise ConfigError(f"{text!r} isn't a size of at least 1 MB", where=option, hint="write 512MB or 8GB")
    return number
