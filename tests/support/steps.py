"""One worker's claim, read, embed and write as separate steps, so that a test can act between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import numpy as np

from pgvector_sync.batch import Outcome, process
from pgvector_sync.batch.claim import Batch, claim
from pgvector_sync.batch.decide import Prepared
from pgvector_sync.batch.embed import embed
from pgvector_sync.batch.process import _prepare
from pgvector_sync.batch.read import read
from pgvector_sync.batch.slice import Written
from pgvector_sync.batch.write import write
from pgvector_sync.capture.drain import Drain
from pgvector_sync.embedding.calls import Calls
from pgvector_sync.embedding.embedder import Embedder, Embeddings
from pgvector_sync.model import Lane, Provider, Purpose, Spec
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.model.learned import NOTHING_LEARNED, Learned
from pgvector_sync.runtime import Runtime
from pgvector_sync.runtime.bootstrap import Embedders, open_database
from pgvector_sync.settings import Settings
from support.endpoint import ALLOWED_HOSTS, vector_of
from support.synced import DIMENSIONS, TEXT_LIMIT, Synced
from support.waiting import within


@dataclass
class Interrupted:
    """An embedder that runs an action before its next call, as if the action happened during a slow call."""

    inner: Embedder
    action: Callable[[], object]

    def prepare(self, spec: Spec) -> None:
        self.inner.prepare(spec)

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
        action, self.action = self.action, lambda: None
        action()
        return self.inner.embed(
            texts, spec, deadline=deadline, purpose=purpose, lane=lane, learned=learned, calls=calls
        )

    def close(self) -> None:
        """Does nothing: the inner embedder belongs to its runtime."""


@dataclass
class Steps:
    """One worker on the pipeline `docs`. Coverage (G1) is checked after every step."""

    synced: Synced
    runtime: Runtime
    pipeline: str = "docs"
    checks: bool = True
    """False if a row's expression fails, since the check of coverage would fail on it as well."""

    def covered(self) -> None:
        if self.checks:
            self.synced.covered()

    # -- the application -----------------------------------------------------------------------------------

    def insert(self, **bodies: str | None) -> None:
        """Inserts rows in one statement: `insert(_1="text")` inserts key 1."""
        keys = [int(name.lstrip("_")) for name in bodies]
        with self.synced.database.lent() as connection:
            connection.execute(
                "INSERT INTO docs (id, body) SELECT * FROM unnest(%s::bigint[], %s::text[])",
                [keys, list(bodies.values())],
            )

    def change(self, key: int, body: str | None) -> None:
        with self.synced.database.lent() as connection:
            connection.execute("UPDATE docs SET body = %s WHERE id = %s", [body, key])

    def delete(self, key: int) -> None:
        with self.synced.database.lent() as connection:
            connection.execute("DELETE FROM docs WHERE id = %s", [key])

    # -- the worker ----------------------------------------------------------------------------------------

    def drain(self) -> int:
        moved = Drain(self.runtime.database, self.runtime.settings.drain_rows)(until=within(10))
        self.covered()
        return moved

    def claim(self, lane: Lane = Lane.LIVE) -> Batch:
        """Drains, then claims a batch, which must not be empty."""
        self.drain()
        batch = self.try_claim(lane)
        assert batch is not None, "nothing was due"
        return batch

    def try_claim(self, lane: Lane = Lane.LIVE) -> Batch | None:
        batch = claim(self.runtime, self.pipeline, lane)
        self.covered()
        return batch

    def embed(self, batch: Batch) -> list[Prepared]:
        """Reads and embeds, and returns what the batch would write."""
        reading = read(self.runtime, batch)
        prepared = _prepare(batch, reading, embed(self.runtime, batch, reading))
        self.covered()
        return prepared

    def write(self, batch: Batch, prepared: Sequence[Prepared]) -> Written:
        written = write(self.runtime, batch, prepared)
        self.covered()
        return written

    def process(self, lane: Lane = Lane.LIVE, *, during: Callable[[], object] | None = None) -> Outcome | None:
        """Drains, then processes one batch; `during` is called in the middle of its provider call."""
        self.drain()
        runtime = self.runtime if during is None else self._interrupted(during)
        outcome = process(runtime, self.pipeline, lane)
        self.covered()
        return outcome

    def _interrupted(self, during: Callable[[], object]) -> Runtime:
        def embedder(provider: Provider) -> Embedder:
            return Interrupted(self.runtime.embedder(provider), during)

        interrupted = replace(self.runtime, embedder=embedder)
        object.__setattr__(interrupted, "keeper", self.runtime.keeper)
        return interrupted

    # -- time and state ------------------------------------------------------------------------------------

    def expire_leases(self) -> None:
        """Makes all leases lost, as if their workers had died a lease ago."""
        self.synced.run(
            "UPDATE pgvector_sync.lease SET expires_at = taken_at, suspected_at = taken_at, lost_at = statement_timestamp() "
            "WHERE lost_at IS NULL"
        )

    def end_backoffs(self) -> None:
        """Makes work and pipelines due, as if the longest back-off and cool-down had passed."""
        self.synced.run(
            "UPDATE pgvector_sync.work SET visible_at = statement_timestamp() WHERE lease IS NULL",
            "UPDATE pgvector_sync.pipeline SET retry_at = statement_timestamp() WHERE retry_at IS NOT NULL",
        )

    def work(self, key: int | str = 1, *columns: str) -> Any:
        """The columns of a key's work row as a tuple (one column without a tuple); None if the row doesn't exist."""
        rows = self.synced.database.execute(
            f"SELECT {', '.join(columns or ('key',))} FROM pgvector_sync.work WHERE key = jsonb_build_array(%s)",
            key,
        )
        if not rows:
            return None
        return rows[0] if len(columns) > 1 else rows[0][0]

    def in_work(self) -> list[Any]:
        """The first key column of every row in work, dead letters included."""
        return [
            key[0] for (key,) in self.synced.database.execute("SELECT key FROM pgvector_sync.work ORDER BY key")
        ]

    def lease(self, key: int = 1) -> UUID | None:
        lease: UUID | None = self.work(key, "lease")
        return lease

    def state(self) -> tuple[str, str | None]:
        """State and reason of the pipeline."""
        return tuple(self.synced.database.execute("SELECT state, reason FROM pgvector_sync.pipeline")[0])

    def has_vector_of(self, key: Any, text: str) -> bool:
        vector = self.synced.vectors().get((key,))
        return vector is not None and bool(np.allclose(vector, vector_of(text, DIMENSIONS)))


@contextmanager
def another_worker(synced: Synced, **settings: Any) -> Iterator[Steps]:
    """A second worker with its own connection pool; `settings` are fields of Settings.

    It shares the first worker's provider clients, unless `provider_timeout` is given, on which clients depend.
    """
    own_settings = Settings(
        DATABASE_URL=synced.database.url,
        _env_file=None,
        **{"text_limit_bytes": TEXT_LIMIT, "poll": 0.005, "allowed_hosts": ALLOWED_HOSTS, **settings},
    )
    with open_database(own_settings) as database, closing(Embedders(own_settings)) as own:
        embedders = own if "provider_timeout" in settings else synced.runtime.embedder
        yield Steps(synced, Runtime(own_settings, database, embedders))
