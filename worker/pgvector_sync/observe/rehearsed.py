"""Carries out a rehearsal: fills its table, builds the index, and measures both."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from pgvector_sync.database import Connection
from pgvector_sync.index.advice import Choice
from pgvector_sync.index.building import shared_memory_is_short
from pgvector_sync.index.facts import Goal
from pgvector_sync.index.preflight import Preflight
from pgvector_sync.index.recall import RecallReport, RecallRequest, SettingResult
from pgvector_sync.index.recall.choice import iterates, settings_of
from pgvector_sync.index.recall.measure import compare
from pgvector_sync.index.recall.subject import Subject, choose
from pgvector_sync.index.resample import Bases, bases_of, calibrated, copies
from pgvector_sync.index.session import Statement
from pgvector_sync.model import Metric
from pgvector_sync.model.search import vector_text
from pgvector_sync.observe.index_advice import Advised, advised_of
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import (
    build_server,
    index_ddl,
    index_facts,
    index_status,
    recall,
    rehearsal,
)
from pgvector_sync.store.recall import Compared, Query
from pgvector_sync.store.shape import Shape

QUERIES = 200
SPREAD = 20
"""How many vectors tell how far apart they are."""
EXACT_SEARCHES = 5
SEARCH_LIMIT = timedelta(seconds=60)
INDEX = "advised"
_ROWS_AT_ONCE = 2_000
Vectors = NDArray[np.float32]
OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is, and of how much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What a pipeline will be like at a number of rows, as measured."""

    pipeline: str
    rows: int
    real_rows: int
    """Those of the rows that are real vectors. The others are copies that were moved."""
    bases: int
    """The number of real vectors of which copies were made."""
    distance_ratio: float | None
    """The median distance of a row to its nearest neighbour, divided by that of real vectors; None: unknown."""
    advised: Advised
    """The index that was built; its sizes are what was predicted."""
    load_time: timedelta
    table_bytes: int
    table_bytes_predicted: int
    index_bytes: int | None
    build_time: timedelta | None
    build_memory_bytes: int | None
    """The `maintenance_work_mem` of the build."""
    workers: int | None
    """Parallel workers of the build; None: as the server decided."""
    exact: timedelta
    """The median time of a search that compares all vectors."""
    queries: int
    """Real vectors that weren't stored."""
    recall: float
    """The recall that was asked for."""
    settings: tuple[SettingResult, ...]
    smallest: SettingResult | None
    """The smallest setting that reaches the recall by the lower bound of its interval."""
    remarks: tuple[str, ...]


def different(sampled: Sequence[Any]) -> Vectors:
    """Return vectors without those of zeros, which are nobody's neighbours."""
    vectors = np.array(
        [each.to_numpy() if hasattr(each, "to_numpy") else each for each in sampled], dtype=np.float32
    )
    return vectors[vectors.any(axis=1)]


@dataclass
class Rehearsed:
    """A rehearsal whose session has the lock."""

    runtime: Runtime
    session: Connection
    shape: Shape
    goal: Goal
    choice: Choice
    flight: Preflight | None
    vectors: Vectors
    table_predicted: int
    random: np.random.Generator
    progress: OnProgress

    def run(self, rows: int) -> Rehearsal:
        held_out = min(QUERIES, len(self.vectors) // 4)
        queries, real = self.vectors[:held_out], self.vectors[held_out:]
        bases = bases_of(real, normalized=self.shape.pipeline.options.metric is not Metric.L2)
        real_rows, load_time = self._load(rows, queries, bases)
        sizes = rehearsal.sizes(self.session, self.shape)
        build_time, workers = self._build()
        grown = rehearsal.grown(self.shape)
        report, exact = self._measure(grown, sizes.oid, queries)
        indexes = self._indexes(sizes.oid)
        return Rehearsal(
            pipeline=self.shape.pipeline.name,
            rows=sizes.rows,
            real_rows=real_rows,
            bases=len(real),
            distance_ratio=self._distance_ratio(grown, bases),
            advised=advised_of(self.choice),
            load_time=load_time,
            table_bytes=sizes.bytes,
            table_bytes_predicted=self.table_predicted,
            index_bytes=indexes[0].bytes if indexes else None,
            build_time=build_time,
            build_memory_bytes=None if self.flight is None else self.flight.memory_bytes,
            workers=workers,
            exact=exact,
            queries=len(queries),
            recall=self.goal.recall,
            settings=() if report is None else report.settings,
            smallest=None if report is None else report.smallest,
            remarks=(*(() if self.flight is None else self.flight.remarks), *self.choice.reasons),
        )

    def _load(self, rows: int, queries: Vectors, bases: Bases) -> tuple[int, timedelta]:
        """Fill the table with real vectors, then with copies; returns the number of real ones, and the time."""
        self.progress("rows", 0, rows)
        rehearsal.create(self.session, self.shape)
        began = time.perf_counter()
        left_out = [vector_text(vector.tolist()) for vector in queries]
        real = rehearsal.copy_real(self.session, self.shape, without=left_out, limit=rows)
        self.progress("rows", real, rows)
        if real < rows:
            multiple = calibrated(bases, rows / len(bases.vectors), self.random)
            rehearsal.copy_grown(self.session, self.shape, self._copies(bases, multiple, real, rows))
        rehearsal.analyze(self.session, self.shape)
        return real, timedelta(seconds=time.perf_counter() - began)

    def _copies(self, bases: Bases, multiple: float, begin: int, end: int) -> Iterator[Vectors]:
        for done in range(begin, end, _ROWS_AT_ONCE):
            chosen = self.random.integers(len(bases.vectors), size=min(_ROWS_AT_ONCE, end - done))
            yield copies(bases, chosen, multiple, self.random)
            self.progress("rows", min(done + _ROWS_AT_ONCE, end), end)

    def _build(self) -> tuple[timedelta | None, int | None]:
        """Build the index; returns the time, and the parallel workers if they were limited."""
        if self.flight is None:
            return None, None
        workers = self.flight.workers
        try:
            return self._built(workers), workers
        except psycopg.Error as error:
            if not shared_memory_is_short(error) or workers == 0:
                raise
            return self._built(0), 0

    def _built(self, workers: int | None) -> timedelta:
        assert self.flight is not None  # noqa: S101  checked by the caller
        build_server.afford(self.session, memory_bytes=self.flight.memory_bytes, workers=workers)
        began = time.perf_counter()
        grown = rehearsal.grown(self.shape)
        building = Statement(
            self.session,
            index_ddl.create(grown, self.choice.plan, INDEX, lists=self.flight.lists, concurrently=False),
        )
        building.watch(self._look)
        building.wait()
        return timedelta(seconds=time.perf_counter() - began)

    def _look(self) -> bool:
        with suppress(psycopg.OperationalError), self.runtime.database.transaction(read_only=True) as connection:
            now = rehearsal.progress(connection, self.shape)
            if now is not None:
                self.progress(now[0], round(100 * now[1]), 100)
        return True

    def _measure(self, grown: Shape, oid: int, queries: Vectors) -> tuple[RecallReport | None, timedelta]:
        """Measure the recall of the index, and how long comparing all vectors takes."""
        texts = [Query(vector_text(vector.tolist())) for vector in queries]
        request = RecallRequest(sweep=True, iterative=["off"], target=self.goal.recall)
        with self.runtime.database.transaction(read_only=True) as connection:
            session = recall.session(connection)
            compared = Compared(grown, request.k)
            took = []
            for query in texts[:EXACT_SEARCHES]:
                began = time.perf_counter()
                recall.exact(connection, compared, query)
                took.append(timedelta(seconds=time.perf_counter() - began))
            exact = sorted(took)[len(took) // 2]
            indexes = index_status.vector_indexes(connection, oid)
            if not indexes:
                return None, exact
            index, compared, planned = choose(
                connection, compared, indexes, [self.choice.storage], texts[0], session, request
            )
        subject = Subject(
            pipeline=self.shape.pipeline,
            compared=compared,
            target=oid,
            index=index,
            rows=0,
            queries=texts,
            source="rows",
            settings=settings_of(index, session, request),
            planned=planned,
            iterates=iterates(session),
        )
        return compare(self.runtime.database, subject, request, SEARCH_LIMIT, progress=self._measured), exact

    def _measured(self, done: int, total: int) -> None:
        self.progress("queries", done, total)

    def _indexes(self, oid: int) -> list[index_status.VectorIndex]:
        with self.runtime.database.transaction(read_only=True) as connection:
            return index_status.vector_indexes(connection, oid)

    def _distance_ratio(self, grown: Shape, bases: Bases) -> float | None:
        """Compare how far rows are from their nearest neighbours with real vectors."""
        metric = self.shape.pipeline.options.metric
        if metric is Metric.INNER_PRODUCT or not np.median(bases.distances) > 0:
            return None
        apart = []
        with self.runtime.database.transaction(read_only=True) as connection:
            recall.session(connection)
            rows = index_facts.sample(connection, grown, rows=SPREAD, limit=SPREAD)
            for vector in different(rows):
                found = recall.exact(connection, Compared(grown, 2), Query(vector_text(vector.tolist())))
                far = max(found[-1], 0.0)
                apart.append(far if metric is Metric.L2 else math.sqrt(2 * far))
        return round(float(np.median(apart) / np.median(bases.distances)), 2)
