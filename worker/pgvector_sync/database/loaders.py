"""Values that Postgres stores and Python can't hold: whoever wrote one, reading it raises nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.json import set_json_loads

FIRST = datetime(1, 1, 1, tzinfo=UTC)
LAST = datetime(9999, 12, 31, tzinfo=UTC)


class EndlessTimestamptz(TimestamptzLoader):
    """`infinity`, and years beyond Python's, are the first or the last moment that there is."""

    def load(self, data: Buffer) -> datetime:
        try:
            return super().load(data)
        except psycopg.DataError:
            text = bytes(data)
            early = text.startswith(b"-") or text.endswith(b"BC")
            return FIRST if early else LAST


def load_json(data: str | bytes) -> Any:
    """None for what is nested too deeply, or holds a number of too many digits."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def duration(seconds: float | None) -> timedelta | None:
    """A number of seconds as a duration; one that is longer than Python's longest is that."""
    if seconds is None:
        return None
    try:
        return timedelta(seconds=seconds)
    except (OverflowError, ValueError):  # infinity, NaN
        return timedelta.max if seconds > 0 else timedelta.min


def tolerate(connection: psycopg.Connection[Any]) -> None:
    """Makes `connection` read any value."""
    connection.adapters.register_loader("timestamptz", EndlessTimestamptz)
    set_json_loads(load_json, connection)
