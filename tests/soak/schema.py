"""Schema changes during the soak: swapped columns, dropped triggers, a target that rejects writes, restored dumps."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psycopg
from watch import TEXT_LIMIT, Watch

from pgvector_sync.store.coverage import not_covered
from support.programs import dump, restore
from support.servers import Database, Postgres, new_database
from support.waiting import eventually

REPAIRED_WITHIN = 60.0
"""Seconds for a look of the watch and a deep reconciliation while processes are killed."""
REPAIRED = """
    SELECT (SELECT count(*) FROM pg_trigger t WHERE t.tgrelid = 'docs'::regclass
            AND (t.tgname IN ('pgvector_sync_insert', 'pgvector_sync_delete', 'pgvector_sync_truncate')
                 OR t.tgname = 'pgvector_sync_update' AND pg_get_triggerdef(t.oid) LIKE '%%old.body)%%')) = 4
       AND NOT EXISTS (SELECT FROM pgvector_sync.pipeline WHERE problem IS NOT NULL OR recheck)
       AND NOT EXISTS (SELECT FROM pgvector_sync.run WHERE kind = 'reconcile' AND state = 'running')
       AND EXISTS (SELECT FROM pgvector_sync.run WHERE kind = 'reconcile' AND state = 'finished' AND horizon >= %s::xid8
                   AND options @> '{"deep": true}')
"""


class SchemaChanges(threading.Thread):
    """Changes the schema every half minute, and waits until the worker has noticed and repaired it."""

    def __init__(self, postgres: Postgres, database: Database, watch: Watch, folder: Path, seed: int) -> None:
        super().__init__(name="schema", daemon=True)
        self.postgres, self.database, self.watch, self.folder = postgres, database, watch, folder
        self.random = random.Random(seed + 200)
        self.stopping = threading.Event()
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self.drift_meant = 0
        """The number of rows that reconciliations found because changes were really missed."""
        self.stale_meant = 0
        """The number of vectors that were stale at their commit for the same reason."""

    def run(self) -> None:
        kinds = [self._swap_columns, self._drop_trigger, self._refuse_writes, self._dump_and_restore]
        while not self.stopping.wait(self.random.uniform(10, 25)):
            kind = self.random.choice(kinds)
            try:
                kind()
            except psycopg.OperationalError:  # the server is restarting
                self.counts["out of reach"] += 1
            except AssertionError as error:
                self.failures.append(f"{kind.__name__}: {error}")
            else:
                self.counts[kind.__name__.strip("_").replace("_", " ")] += 1

    def _swap_columns(self) -> None:
        """Swaps two columns, the usual way to widen one."""
        self._missing(
            "ALTER TABLE docs ADD wide text; UPDATE docs SET wide = body; ALTER TABLE docs RENAME body TO narrow; "
            "ALTER TABLE docs RENAME wide TO body; ALTER TABLE docs RENAME narrow TO dropped"
        )
        self._retry_while_locked("ALTER TABLE docs DROP dropped")

    def _drop_trigger(self) -> None:
        event = self.random.choice(["insert", "update", "delete"])
        self._missing(f"DROP TRIGGER IF EXISTS pgvector_sync_{event} ON docs")

    def _missing(self, change: str) -> None:
        """Makes a change after which others are missed, until the watch has repaired it and all rows are compared."""
        before, stale = self.drift(), self.witnessed()
        with self.watch.excused():
            since = self._retry_while_locked(f"{change}; SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
            eventually(lambda: self._repaired(since), REPAIRED_WITHIN, what="noticed, repaired and compared")
            eventually(lambda: self.covered(self.database), REPAIRED_WITHIN, what="G1 holds again")
        self.drift_meant += self.drift() - before
        self.stale_meant += self.witnessed() - stale

    def _repaired(self, since: str) -> bool:
        with suppress(psycopg.OperationalError):
            return bool(self.database.value(REPAIRED, since))
        return False

    def _refuse_writes(self) -> None:
        """Makes the target reject the writes of some or all rows for a while."""
        which = self.random.choice(["id % 10 > 0", "id < 0"])
        self._retry_while_locked(f"ALTER TABLE docs_embedding ADD CONSTRAINT refuses CHECK ({which}) NOT VALID")
        self.stopping.wait(self.random.uniform(1, 4))
        self._retry_while_locked("ALTER TABLE docs_embedding DROP CONSTRAINT refuses")
        self._retry_while_locked("UPDATE pgvector_sync.pipeline SET state = 'active', reason = NULL, retry_at = NULL "
                        "WHERE state = 'misconfigured'")  # fmt: skip

    def _dump_and_restore(self) -> None:
        """Restores a dump, which is one snapshot: G1 holds in it, and it has all triggers."""
        file = dump(self.database, self.folder / "soak.sql")
        with new_database(self.postgres) as copy:
            restore(file, copy)
            assert self.covered(copy), "the restored database is not covered"
            triggers = "SELECT count(*) FROM pg_trigger WHERE starts_with(tgname, 'pgvector_sync_')"
            assert copy.value(triggers) == 5, "the restored database lacks triggers"

    def covered(self, database: Database) -> bool:
        with database.connect() as connection:
            connection.row_factory = psycopg.rows.dict_row  # type: ignore[assignment]
            return not_covered(connection, self.watch.shape, text_limit=TEXT_LIMIT) == []

    def witnessed(self) -> int:
        return int(self.database.value("SELECT count(*) FROM witnessed"))

    def drift(self) -> int:
        kinds = "missing + stale + orphaned + wrong_model + broken + incomplete"
        return int(self.database.value(f"SELECT coalesce(sum({kinds}), 0) FROM pgvector_sync.drift"))

    def _retry_while_locked(self, statement: str) -> str:
        """Runs DDL among writers, with short lock timeouts and many retries. Returns the last value, if there is one."""
        end = time.monotonic() + 30
        while True:
            try:
                with self.database.connect() as connection, connection.transaction():
                    connection.execute("SET LOCAL lock_timeout = '300ms'")
                    cursor = connection.execute(statement)
                    while cursor.nextset():
                        pass
                    return str(cursor.fetchone()[0]) if cursor.description else ""
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
