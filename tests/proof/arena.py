"""One pipeline on a real database, where both checks follow every step: coverage (G1) and the witness.

The provider is a Python function, since the proof isn't about it; everything else is production code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from pgvector_sync.capture.drain import Drain
from pgvector_sync.embedding.calls import Calls
from pgvector_sync.embedding.embedder import Embeddings
from pgvector_sync.engine.loop import Loop
from pgvector_sync.errors import InputRejected
from pgvector_sync.model import Lane, Purpose, Spec
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.model.learned import NOTHING_LEARNED, Learned
from pgvector_sync.runtime import Runtime
from pgvector_sync.runtime.bootstrap import open_database
from pgvector_sync.settings import Settings
from pgvector_sync.store import coverage
from soak.watch import WITNESS
from support.endpoint import Endpoint, vector_of
from support.servers import Database
from support.steps import Steps
from support.synced import DIMENSIONS, TEXT_LIMIT, Synced, session
from support.waiting import within

DOCS = "CREATE TABLE docs (id bigint PRIMARY KEY, body text, note text, price numeric)"
"""`body` is tracked; the others aren't, until a scenario applies the pipeline with them."""
REFUSED = "refused"
"""The provider rejects texts that contain this word."""
LOCK_TIMEOUT = timedelta(milliseconds=5)
DEAD = "SELECT key FROM pgvector_sync.work WHERE verdict = 'dead' AND error_class <> 'worker_crashed'"
CRASHED = "SELECT key FROM pgvector_sync.work WHERE error_class = 'worker_crashed'"
TURNS = 40
"""A number of turns that is enough for everything here to come to rest."""


class Violation(AssertionError):
    """A guarantee doesn't hold."""

    def __init__(self, check: str, what: object) -> None:
        super().__init__(f"{check}: {what}")
        self.check = check


@dataclass
class Model:
    """An embedding provider without a network."""

    texts: list[str] = field(default_factory=list)
    """The texts that it has embedded."""

    def prepare(self, spec: Spec) -> None:
        """Does nothing, since there is nothing to check."""

    def embed(
        self,
        texts: Sequence[str],
        spec: Spec,
        *,
        deadline: Deadline,
        purpose: Purpose = Purpose.DOCUMENT,
        lane: Lane = Lane.LIVE,
        learned: Learned = NOTHING_LEARNED,
        calls: Calls | None = None,
    ) -> Embeddings:
        if any(REFUSED in text for text in texts):
            raise InputRejected("the provider refuses this input", status=400)
        self.texts += texts
        vectors = np.array([vector_of(text, spec.dimensions) for text in texts], dtype=np.float32)
        return Embeddings(vectors, tokens=len(texts), requests=1)

    def close(self) -> None:
        """Does nothing, since there is nothing to close."""


@dataclass
class Arena(Steps):
    """The steps of the protocol, with open sessions of the application and of an observer."""

    application: psycopg.Connection[Any] = None  # type: ignore[assignment]
    observer: psycopg.Connection[Any] = None  # type: ignore[assignment]
    model: Model = field(default_factory=Model)
    counted: int = 0
    """The number of checks so far."""

    def __post_init__(self) -> None:
        self.loop = Loop(self.runtime)

    @property
    def drain_of_loop(self) -> Drain:
        """The loop's drain, which keeps its hint and its sweeps, unlike the one that `drain` creates."""
        return self.loop._engine._drain

    # -- the checks ----------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Builds the checks for the pipeline as it is applied now. Call it again after each `apply`."""
        shape = self.synced.shape()
        pipeline = shape.pipeline
        witness = WITNESS.replace("d.body", f"({pipeline.text_sql})").format(spec=pipeline.spec.digest.hex())
        self.synced.run("DROP TABLE IF EXISTS witnessed; DROP FUNCTION IF EXISTS witness CASCADE", witness)
        self._params = coverage.params(shape, TEXT_LIMIT)
        self._check = (
            f"SELECT 'G1', key FROM ({coverage.not_covered_query(shape).as_string(self.observer)}) AS lost "
            "UNION ALL SELECT 'witness', jsonb_build_array(id) FROM witnessed"
        )
        self._state = (
            f"SELECT source.key, source.text, target.key, target.embedding FROM "
            f"(SELECT id AS key, ({pipeline.text_sql})::text AS text FROM docs WHERE {pipeline.where_sql or 'true'}) "
            "AS source FULL JOIN (SELECT id AS key, embedding::text FROM docs_embedding) AS target USING (key) "
            "WHERE source.text ~ '\\S' OR target.key IS NOT NULL"
        )

    def covered(self) -> None:
        if self.checks:
            self.check()

    def check(self) -> None:
        """Asserts that no change is lost, and that no vector was committed for a row that has changed and isn't waiting."""
        self.counted += 1
        for check, key in self.observer.execute(self._check, self._params, prepare=True):
            raise Violation(check, key)

    def at_rest(self) -> None:
        """Runs the protocol to rest, then asserts that every vector is exact and every dead letter was rejected."""
        self.run_to_rest()
        dead = {key[0] for (key,) in self.observer.execute(DEAD, prepare=True)}
        crashed = {key[0] for (key,) in self.observer.execute(CRASHED, prepare=True)}
        for key, text, stored, vector in self.observer.execute(self._state, prepare=True):
            if key in crashed:
                continue
            if key in dead:
                if REFUSED not in (text or ""):
                    raise Violation("dead letter", f"{text!r} was never rejected")
            elif stored is None or key is None:
                raise Violation("exact", f"row {key} and vector {stored}")
            elif not np.allclose(json.loads(vector), vector_of(text, DIMENSIONS)):
                raise Violation("exact", f"row {key} has the vector of another text")

    def run_to_rest(self) -> None:
        for _ in range(TURNS):
            self.covered()
            if self._settled():
                return
            self.drain_of_loop._scanned_at = 0.0  # as if a second had passed
            self.let_time_pass()
            self.loop.turn()
        state, reason = self.state()
        if state == "misconfigured":  # caused by an invalid statement, which makes the test invalid
            raise RuntimeError(reason)
        raise Violation("G11", f"not at rest after {TURNS} turns")

    def let_time_pass(self) -> None:
        """Ends leases, back-offs, cool-downs, hints and the pauses of runs, as if their time had passed."""
        for hints in (self.runtime.due_hints, self.loop._engine._hints):
            hints._known = {lane: (hint, Deadline(0)) for lane, (hint, _) in hints._known.items()}
        self.application.execute(
            """
            BEGIN;
            UPDATE pgvector_sync.work SET visible_at = statement_timestamp() - interval '1 second';
            UPDATE pgvector_sync.lease SET expires_at = taken_at, suspected_at = taken_at,
                lost_at = statement_timestamp() WHERE lost_at IS NULL;
            UPDATE pgvector_sync.run SET visible_at = statement_timestamp() WHERE state = 'running';
            UPDATE pgvector_sync.pipeline SET retry_at = statement_timestamp() WHERE retry_at IS NOT NULL;
            COMMIT;
            """
        )

    def _settled(self) -> bool:
        query = """
            SELECT NOT EXISTS (SELECT FROM pgvector_sync.outbox) AND NOT EXISTS (SELECT FROM pgvector_sync.sweep)
               AND NOT EXISTS (SELECT FROM pgvector_sync.parked)
               AND NOT EXISTS (SELECT FROM pgvector_sync.work WHERE parked_at IS NULL)
               AND NOT EXISTS (SELECT FROM pgvector_sync.run WHERE state = 'running')
        """
        return bool(self.observer.execute(query, prepare=True).fetchone()[0])  # type: ignore[index]

    # -- the application -----------------------------------------------------------------------------------

    def sql(self, *statements: str) -> None:
        """Runs each statement in its own transaction."""
        for statement in statements:
            self.application.execute(statement)
            self.covered()

    def insert(self, **bodies: str | None) -> None:
        keys = [int(name.lstrip("_")) for name in bodies]
        self.application.execute(
            "INSERT INTO docs (id, body) SELECT * FROM unnest(%s::bigint[], %s::text[])",
            [keys, list(bodies.values())],
        )
        self.covered()

    def change(self, key: int, body: str | None) -> None:
        self.application.execute("UPDATE docs SET body = %s WHERE id = %s", [body, key])
        self.covered()

    def expire_leases(self) -> None:
        """Makes all leases lost, as if their workers had died a lease ago."""
        self.application.execute(
            "UPDATE pgvector_sync.lease SET expires_at = taken_at, suspected_at = taken_at, lost_at = statement_timestamp() "
            "WHERE lost_at IS NULL"
        )

    def delete(self, key: int) -> None:
        self.application.execute("DELETE FROM docs WHERE id = %s", [key])
        self.covered()

    def insert_unwatched(self, key: int) -> None:
        """Inserts a row without checks, for when there is no pipeline whose coverage could be checked."""
        self.application.execute("INSERT INTO docs (id, body) VALUES (%s, %s)", [key, f"text {key}"])

    # -- the pipeline --------------------------------------------------------------------------------------

    def apply(self, **values: Any) -> None:
        """Applies the pipeline with these values in its section."""
        self.synced.declare(**values)
        self.synced.apply()
        self.watch()
        self.covered()

    def settle(self) -> None:
        self.at_rest()

    @contextmanager
    def another(self, **settings: Any) -> Iterator[Arena]:
        """A second worker on the same pipeline, with the same checks; `settings` are fields of Settings."""
        own_settings = self.runtime.settings.model_copy(update=settings)
        with open_database(own_settings) as database:
            runtime = Runtime(own_settings, database, self.runtime.embedder)
            other = Arena(self.synced, runtime, application=self.application, observer=self.observer)
            other._check, other._params, other._state = self._check, self._params, self._state
            yield other

    def reset(self) -> None:
        """Empties all tables, with deletes, which are faster than TRUNCATE for a few rows."""
        self.application.execute(
            """
            BEGIN;
            SET LOCAL session_replication_role = replica;
            DELETE FROM docs; DELETE FROM docs_embedding; DELETE FROM witnessed;
            DELETE FROM pgvector_sync.outbox; DELETE FROM pgvector_sync.sweep; DELETE FROM pgvector_sync.parked;
            DELETE FROM pgvector_sync.work; DELETE FROM pgvector_sync.run;
            DELETE FROM pgvector_sync.lease; DELETE FROM pgvector_sync.batch_totals;
            DELETE FROM pgvector_sync.usage; DELETE FROM pgvector_sync.throughput;
            UPDATE pgvector_sync.pipeline SET state = 'active', reason = NULL, retry_at = NULL, failures = 0;
            COMMIT;
            """
        )
        self.loop = Loop(self.runtime)
        self.model.texts.clear()


@contextmanager
def open_arena(database: Database, folder: Path) -> Iterator[Arena]:
    """The default source, empty, with its pipeline applied, and one worker."""
    settings = Settings(
        DATABASE_URL=database.url,
        _env_file=None,
        text_limit_bytes=TEXT_LIMIT,
        poll=timedelta(milliseconds=1),
        lock_timeout=LOCK_TIMEOUT,
    )
    model = Model()
    with (
        open_database(settings) as pool,
        database.connect() as application,
        database.connect() as observer,
        Endpoint() as endpoint,  # named by the pipeline's provider, never called
    ):
        observer.execute("SET plan_cache_mode = force_generic_plan")
        runtime = Runtime(settings, pool, lambda _: model)
        synced = Synced(database, endpoint, runtime, runtime, folder / "pgvector-sync.toml")
        synced.run(DOCS)
        synced.declare()
        synced.apply()
        arena = Arena(synced, runtime, application=application, observer=observer, model=model)
        arena.watch()
        arena.at_rest()
        yield arena


def writer(arena: Arena) -> psycopg.Connection[Any]:
    """A session of the application, without autocommit."""
    return session(arena.synced.database)


def soon() -> Deadline:
    """A deadline that no step here reaches."""
    return within(10)
