"""The application in the soak: threads that change rows in every way, each in its own range of keys."""

from __future__ import annotations

import random
import threading
from collections import Counter

import psycopg

from support.servers import Database

RANGE = 400
"""The number of keys per writer."""


class Writer(threading.Thread):
    """Changes rows until `stopping` is set, and counts the transactions that it knows to have committed."""

    def __init__(self, database: Database, number: int, seed: int) -> None:
        super().__init__(name=f"writer-{number}", daemon=True)
        self.database = database
        self.low = number * RANGE
        self.random = random.Random(seed + number)
        self.stopping = threading.Event()
        self.counts: Counter[str] = Counter()
        self.sqlstates: Counter[str] = Counter()

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                with self.database.connect(application_name="application") as connection:
                    while not self.stopping.is_set():
                        self._change(connection)
                        self.stopping.wait(self.random.uniform(0, 0.02))
            except psycopg.OperationalError as error:
                if error.sqlstate:
                    self.sqlstates[error.sqlstate] += 1
                self.stopping.wait(0.1)  # the server is being restarted

    def _change(self, connection: psycopg.Connection) -> None:
        kind = self.random.choices(
            [
                "insert",
                "update",
                "note",
                "delete",
                "rekey",
                "back and forth",
                "several",
                "rolled back",
                "truncate",
            ],
            [30, 30, 10, 12, 5, 5, 6, 2, 0.02],
        )[0]
        level = self.random.choice(["READ COMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
        try:
            with connection.transaction():
                connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
                getattr(self, "do_" + kind.replace(" ", "_"))(connection)
        except _Undone:
            pass
        except psycopg.errors.UniqueViolation:
            return
        except psycopg.errors.SerializationFailure:
            self.sqlstates[f"40001 under {level}"] += 1
            return
        except psycopg.errors.DeadlockDetected:
            self.sqlstates["40P01"] += 1
            return
        self.counts[kind] += 1

    def _key(self) -> int:
        return self.low + self.random.randrange(RANGE)

    def _text(self) -> str:
        return f"text {self.random.randrange(10**9)}"

    def do_insert(self, connection: psycopg.Connection) -> None:
        connection.execute(
            "INSERT INTO docs (id, body) VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET body = excluded.body",
            (self._key(), self.random.choice([self._text(), self._text(), self._text(), None, "  "])),
        )

    def do_update(self, connection: psycopg.Connection) -> None:
        connection.execute("UPDATE docs SET body = %s WHERE id = %s", (self._text(), self._key()))

    def do_note(self, connection: psycopg.Connection) -> None:
        connection.execute("UPDATE docs SET note = %s WHERE id = %s", (self._text(), self._key()))

    def do_delete(self, connection: psycopg.Connection) -> None:
        connection.execute("DELETE FROM docs WHERE id = %s", (self._key(),))

    def do_rekey(self, connection: psycopg.Connection) -> None:
        connection.execute("UPDATE docs SET id = %s WHERE id = %s", (self._key(), self._key()))

    def do_back_and_forth(self, connection: psycopg.Connection) -> None:
        key = self._key()
        connection.execute("UPDATE docs SET body = body || ' x' WHERE id = %s", (key,))
        connection.execute("UPDATE docs SET body = left(body, -2) WHERE id = %s", (key,))

    def do_several(self, connection: psycopg.Connection) -> None:
        low = self._key()
        connection.execute(
            "UPDATE docs SET body = %s || id WHERE id BETWEEN %s AND %s AND id < %s",
            (self._text(), low, low + 20, self.low + RANGE),
        )

    def do_rolled_back(self, connection: psycopg.Connection) -> None:
        self.do_delete(connection)
        raise _Undone

    def do_truncate(self, connection: psycopg.Connection) -> None:
        connection.execute("SET LOCAL lock_timeout = '1s'")
        connection.execute("TRUNCATE docs")


class _Undone(Exception):
    """Rolls a transaction back on purpose."""
