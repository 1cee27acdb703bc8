"""Sessions of the superuser that are used again: opening one takes fifty times as long as a short statement."""

from __future__ import annotations

import re
import select
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

AS_NEW = (
    "RESET ALL; RESET ROLE; DISCARD TEMP; UNLISTEN *; "
    "SELECT pg_advisory_unlock_all(), pg_stat_force_next_flush()"  # what the end of a session does as well
)
SETTING = re.compile(r"\bALTER\s+(DATABASE|ROLE|USER|SYSTEM)\b|pg_reload_conf", re.IGNORECASE)
"""A statement that changes with which settings a session begins."""


class Sessions:
    """The sessions of one server, by database. A statement can't tell such a session from a new one."""

    def __init__(self, connect: Callable[..., psycopg.Connection[Any]], start: Callable[[], None]) -> None:
        self._connect = connect
        self._start = start
        self._idle: dict[str, list[psycopg.Connection[Any]]] = defaultdict(list)

    @contextmanager
    def lent(self, database: str, *, wake: bool = False) -> Iterator[psycopg.Connection[Any]]:
        """An autocommit connection, for one thread. `wake` starts the server if a test has left it dead."""
        connection = self._alive(database)
        if connection is None:
            if wake:
                self._start()
            # without prepared statements, which a change of the schema would break
            connection = self._connect(database, prepare_threshold=None)
        try:
            yield connection
            connection.commit()
            connection.execute(AS_NEW)
        except BaseException:
            connection.close()
            raise
        self._idle[database].append(connection)

    def close(self, database: str | None = None) -> None:
        """Closes the sessions in one database, or in all."""
        for name in [database] if database else list(self._idle):
            for connection in self._idle.pop(name, ()):
                connection.close()

    def _alive(self, database: str) -> psycopg.Connection[Any] | None:
        """An idle session that the server hasn't ended meanwhile."""
        while idle := self._idle[database]:
            connection = idle.pop()
            if not connection.closed:
                unread = select.poll()
                unread.register(connection.fileno(), select.POLLIN)
                if not unread.poll(0):  # an end is announced
                    return connection
                connection.close()
        return None
