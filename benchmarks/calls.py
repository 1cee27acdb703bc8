"""Counts how often this process waits for an answer of Postgres: a round trip per statement, BEGIN and COMMIT."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import psycopg


class Calls:
    """The number of round trips so far."""

    def __init__(self) -> None:
        self._counter = count()
        self.one_more = self._counter.__next__  # atomic, unlike an addition

    @property
    def made(self) -> int:
        """Read once, at the end: reading counts as well."""
        return self.one_more()


@contextmanager
def counted_calls() -> Iterator[Calls]:
    """Count the round trips of all connections of this process."""
    calls = Calls()
    original = psycopg.Connection.wait

    def wait(connection: psycopg.Connection[Any], *arguments: Any, **options: Any) -> Any:
        calls.one_more()
        return original(connection, *arguments, **options)

    psycopg.Connection.wait = wait
    try:
        yield calls
    finally:
        psycopg.Connection.wait = original
