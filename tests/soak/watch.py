"""The continuous checks: G1 as one query, and a constraint trigger that examines every written vector."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from pgvector_sync.model import Pipeline
from pgvector_sync.store.coverage import not_covered
from pgvector_sync.store.shape import Shape
from support.servers import Database

TEXT_LIMIT = 1_000_000

WITNESS = """
CREATE TABLE witnessed (id bigint, at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $witness$
BEGIN
    -- deferred to the commit: the row still has the text that was embedded, or its change is in outbox or work
    IF NOT EXISTS (SELECT FROM docs d WHERE d.id = NEW.id
                   AND sha256('\\x{spec}'::bytea || convert_to(d.body, 'UTF8')) = NEW.fingerprint)
       AND NOT EXISTS (SELECT FROM pgvector_sync.outbox o WHERE o.key = jsonb_build_array(NEW.id))
       AND NOT EXISTS (SELECT FROM pgvector_sync.sweep)
       AND NOT EXISTS (SELECT FROM pgvector_sync.work w WHERE w.key = jsonb_build_array(NEW.id))
    THEN
        INSERT INTO witnessed (id) VALUES (NEW.id);
    END IF;
    RETURN NULL;
END
$witness$;
CREATE CONSTRAINT TRIGGER witness AFTER INSERT OR UPDATE ON docs_embedding
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION witness();
"""


class Watch(threading.Thread):
    """Checks G1 continuously, and keeps the violations."""

    def __init__(self, database: Database, pipeline: Pipeline) -> None:
        super().__init__(name="watch", daemon=True)
        self.database = database
        self.shape = Shape(pipeline, "public")
        self.stopping = threading.Event()
        self.checks = 0
        self.violations: list[object] = []
        self._excuses = 0

    @contextmanager
    def excused(self) -> Iterator[None]:
        """Ignores violations while changes are missed on purpose."""
        self._excuses += 1
        try:
            yield
        finally:
            self._excuses -= 1

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                with self.database.connect(application_name="watch") as connection:
                    connection.row_factory = psycopg.rows.dict_row  # type: ignore[assignment]
                    while not self.stopping.is_set():
                        excuses = self._excuses
                        missing = not_covered(connection, self.shape, text_limit=TEXT_LIMIT)
                        if excuses == 0 == self._excuses:
                            self.violations += missing
                            self.checks += 1
                        self.stopping.wait(0.02)
            except psycopg.OperationalError:
                self.stopping.wait(0.1)
