"""From the outside: two workers, a slow provider and a busy application. Every vector is of its row's text.

`PGVECTOR_SYNC_BLACKBOX_SECONDS=600` makes it a long run.
"""

from __future__ import annotations

import json
import os
import random
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgvector_sync.observe.status import settled
from support.endpoint import ENVIRONMENT
from support.processes import Processes
from support.servers import Database
from support.synced import DIMENSIONS, DOCS, MODEL, Synced, runtime_of
from support.waiting import eventually

SECONDS = float(os.environ.get("PGVECTOR_SYNC_BLACKBOX_SECONDS", "4"))
WRITERS = 4
KEYS = 60
"""Of each writer, which has a range of its own: writers don't wait for each other."""

CONFIG = f"""
[providers.hash]
base_url = "{{base_url}}"
api_key_env = "TEST_KEY"

[pipelines.docs]
source = "public.docs"
text = ["body"]
provider = "hash"
model = "{MODEL}"
dimensions = {DIMENSIONS}
batch_size = 40
"""


@dataclass
class Writer:
    """One session of the application."""

    number: int
    database: Database
    stop: threading.Event
    truncates_at: float | None
    done: dict[str, int] = field(default_factory=dict)
    failed: BaseException | None = None

    def __post_init__(self) -> None:
        self.random = random.Random(self.number)
        self.thread = threading.Thread(target=self.run, name=f"writer-{self.number}")

    def run(self) -> None:
        try:
            with self.database.connect(application_name=self.thread.name) as connection:
                while not self.stop.wait(self.random.uniform(0, 0.02)):
                    self._write(connection)
        except BaseException as error:  # noqa: BLE001  # the test raises it
            self.failed = error

    def _write(self, connection: psycopg.Connection[Any]) -> None:
        if self.truncates_at is not None and time.monotonic() > self.truncates_at:
            self.truncates_at = None
            connection.execute("TRUNCATE docs")
            self._count("truncate")
            return
        kinds = {self._insert: 5, self._update: 5, self._delete: 2, self._move: 2, self._note: 3, self._many: 1}
        kinds |= {self._back_and_forth: 1, self._rolled_back: 1, self._repeatable: 1}
        [change] = self.random.choices(list(kinds), list(kinds.values()))
        change(connection)
        self._count(change.__name__.lstrip("_"))

    def _count(self, kind: str) -> None:
        self.done[kind] = self.done.get(kind, 0) + 1

    def _key(self) -> int:
        return self.number * 1_000 + self.random.randrange(KEYS)

    def _body(self) -> str | None:
        # some are blank, and some equal those of other rows
        return self.random.choice([None, " ", "the same", *(f"text {self.random.random()}" for _ in range(17))])

    def _insert(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(
            "INSERT INTO docs VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET body = excluded.body",
            [self._key(), self._body()],
        )

    def _update(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute("UPDATE docs SET body = %s WHERE id = %s", [self._body(), self._key()])

    def _delete(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute("DELETE FROM docs WHERE id = %s", [self._key()])

    def _move(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(
            "UPDATE docs SET id = %(to)s WHERE id = %(from)s AND NOT EXISTS (SELECT FROM docs WHERE id = %(to)s)",
            {"from": self._key(), "to": self._key()},
        )

    def _note(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute("UPDATE docs SET note = %s WHERE id = %s", [str(self.random.random()), self._key()])

    def _many(self, connection: psycopg.Connection[Any]) -> None:
        first = self._key()
        connection.execute(
            "UPDATE docs SET body = body || '.' WHERE id BETWEEN %s AND %s", [first, self.number * 1_000 + 999]
        )

    def _back_and_forth(self, connection: psycopg.Connection[Any]) -> None:
        key = self._key()
        connection.execute("UPDATE docs SET body = 'x' || body WHERE id = %s", [key])
        connection.execute("UPDATE docs SET body = substr(body, 2) WHERE id = %s", [key])

    def _rolled_back(self, connection: psycopg.Connection[Any]) -> None:
        with connection.transaction(force_rollback=True):
            self._update(connection)
            self._delete(connection)

    def _repeatable(self, connection: psycopg.Connection[Any]) -> None:
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self._insert(connection)
            self._delete(connection)


@contextmanager
def writing(database: Database) -> Iterator[list[Writer]]:
    """Writers that write until the end of the `with`; the first one truncates in the middle."""
    stop, middle = threading.Event(), time.monotonic() + SECONDS / 2
    writers = [Writer(i, database, stop, middle if i == 0 else None) for i in range(WRITERS)]
    for writer in writers:
        writer.thread.start()
    try:
        yield writers
    finally:
        stop.set()
        for writer in writers:
            writer.thread.join(30)
    for writer in writers:
        if writer.failed is not None:
            raise writer.failed


def our_backends(database: Database) -> set[int]:
    query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pgvector-sync'"
    return {pid for (pid,) in database.execute(query)}


def waits_on_us(database: Database, ours: set[int]) -> list[str]:
    """Lock waits of writers beyond deadlock_timeout (100 ms) in which one of our backends held the lock."""
    lines = database.server.logged(rf" {database.name} writer-\d .*(still waiting|holding the lock)")
    holders = [
        (line, {int(pid) for pid in re.findall(r"\d+", found.group(1))})
        for line in lines
        if (found := re.search(r"holding the lock: ([\d, ]+)\.", line))
    ]
    return [line for line, pids in holders if pids & ours]


@pytest.fixture
def synced(database: Database, processes: Processes, redis_url: str, tmp_path: Path) -> Iterator[Synced]:
    """Everything runs in processes of its own; here is only what looks at them."""
    server = Path(__file__).resolve().parents[1] / "support" / "endpoint.py"
    endpoint = processes.start(sys.executable, server, "--latency-ms", "300")
    endpoint.wait_for("base_url")
    (tmp_path / "pgvector-sync.toml").write_text(CONFIG.format(**json.loads(endpoint.printed)))
    processes.env |= {"DATABASE_URL": database.url, "REDIS_URL": redis_url, **ENVIRONMENT}
    database.execute(DOCS)
    assert processes.command("apply", "--yes").wait() == 0
    with runtime_of(database.url, _no_embedder) as runtime:
        yield Synced(database, None, runtime, runtime, tmp_path / "pgvector-sync.toml")  # type: ignore[arg-type]


def _no_embedder(_: object) -> Any:
    raise AssertionError("the workers embed, not the test")


@pytest.mark.timeout(SECONDS + 240)
def test_every_vector_belongs_to_the_current_text_while_writers_and_workers_race(
    synced: Synced, processes: Processes
) -> None:
    database = synced.database
    for _ in range(2):
        processes.command("worker", "--concurrency", "3").wait_for("worker_ready")
    ours, checks, end = our_backends(database), 0, time.monotonic() + SECONDS
    with writing(database) as writers:
        while time.monotonic() < end:
            synced.covered()
            ours |= our_backends(database)
            checks += 1
    done = {kind: sum(w.done.get(kind, 0) for w in writers) for kind in {k for w in writers for k in w.done}}
    print(f"{checks} checks of coverage; {done}; {len(ours)} backends of ours")
    assert done["truncate"] == 1
    assert checks > 3 * SECONDS

    def quiet() -> bool:
        synced.covered()
        return settled(synced.runtime.database, None)

    eventually(quiet, 120, what="the workers have caught up")
    synced.exact()
    assert len(synced.vectors()) > KEYS
    assert database.execute("SELECT * FROM pgvector_sync.work") == []
    assert database.execute("SELECT * FROM pgvector_sync.outbox") == []
    assert database.server.logged(rf" {database.name} .*deadlock detected") == []
    assert waits_on_us(database, ours) == []


def test_a_writer_that_waits_on_us_would_be_noticed(synced: Synced) -> None:
    database = synced.database
    database.execute("INSERT INTO docs VALUES (1, 'text')")
    with database.connect(application_name="pgvector-sync") as worker, worker.transaction():
        worker.execute("LOCK TABLE docs")
        writer = database.connect(application_name="writer-0", options="-c lock_timeout=300ms")
        with writer, pytest.raises(psycopg.errors.LockNotAvailable):
            writer.execute("DELETE FROM docs")
        ours = our_backends(database)
    assert len(waits_on_us(database, ours)) == 1
    assert waits_on_us(database, set()) == []


def test_a_check_of_coverage_waits_for_the_lock_of_a_writers_truncate(synced: Synced) -> None:
    check = threading.Thread(target=synced.covered)
    with synced.database.connect() as writer, writer.transaction():
        writer.execute("TRUNCATE docs")
        check.start()
        check.join(4 * synced.runtime.settings.lock_timeout.total_seconds())
        assert check.is_alive()
    check.join(20)
    assert not check.is_alive()
