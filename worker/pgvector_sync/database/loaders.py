"""Loaders for values that Postgres can store and Python can't: reading one never raises."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.abc import AdaptContext, Buffer
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.json import set_json_loads

FIRST = datetime(1, 1, 1, tzinfo=UTC)
LAST = datetime(9999, 12, 31, tzinfo=UTC)
_DECODER = json.JSONDecoder()


class ClampingTimestamptzLoader(TimestamptzLoader):
    """Reads `infinity`, and years that Python doesn't have, as FIRST or LAST."""

    def load(self, data: Buffer) -> datetime:
        try:
            return super().load(data)
        except psycopg.DataError:
            text = bytes(data)
            early = text.startswith(b"-") or text.endswith(b"BC")
            return FIRST if early else LAST


def load_json(data: str | bytes) -> Any:
    """Reads JSON. Returns None if it is nested too deeply, or contains a number with too many digits."""
    try:
        text = data if isinstance(data, str) else str(data, "utf-8")
        # json.loads would first detect the encoding and skip spaces, which takes as long as reading a key
        if text[:1] in ("[", "{"):
            value, end = _DECODER.raw_decode(text)
            if end == len(text):
                return value
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def duration(seconds: float | None) -> timedelta | None:
    """Converts seconds to a duration, limited to the range that Python has."""
    if seconds is None:
        return None
    try:
        return timedelta(seconds=seconds)
    except (OverflowError, ValueError):  # infinity, NaN
        return timedelta.max if seconds > 0 else timedelta.min


def accept_any_value(context: AdaptContext) -> None:
    """Makes a connection, or a cursor, read every value without an error."""
    context.adapters.register_loader("timestamptz", ClampingTimestamptzLoader)
    set_json_loads(load_json, context)
