"""Measures recall: searches with an index are compared with searches that compare every vector.

Each query has a transaction of its own with one snapshot, in which the nearest rows are first found by comparing
all, and then with each setting by the index. The server's count of scans proves which of them have used the index.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import psycopg

from pgvector_sync.database import Connection, Database, limit_statements
from pgvector_sync.errors import Refused
from pgvector_sync.index.recall.choice import require_sound
from pgvector_sync.index.recall.findings import findings
from pgvector_sync.index.recall.report import DIAL, MeasuredIndex, RecallReport, RecallRequest, Setting
from pgvector_sync.index.recall.statistics import Answer, recall_of, result_of, smallest
from pgvector_sync.index.recall.subject import Subject, avoid_other_method, look, use
from pgvector_sync.model import Method, Storage
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.settings import Settings
from pgvector_sync.store import recall, trust
from pgvector_sync.store.recall import Compared, Query

SILENCE = timedelta(seconds=10)
"""How long the server may be silent beyond the time limit of a statement."""
OnProgress = Callable[[int, int], None]
"""Called with the number of queries that are done, and of all. It may raise to end the measurement."""


def measure(
    database: Database,
    settings: Settings,
    pipeline_name: str,
    request: RecallRequest,
    *,
    progress: OnProgress = lambda _done, _total: None,
) -> RecallReport:
    """Measure the recall of a pipeline's index. Only reads. Raises Refused, DatabaseRefuses and psycopg.Error."""
    require_sound(request)
    limit = request.statement_timeout or settings.page_limit
    with _transaction(database, limit) as connection:
        subject = look(connection, database.vector_schema, pipeline_name, request)
    return compare(database, subject, request, limit, progress=progress)


def compare(
    database: Database,
    subject: Subject,
    request: RecallRequest,
    limit: timedelta,
    *,
    progress: OnProgress = lambda _done, _total: None,
) -> RecallReport:
    """Measure what `look` has found, each statement within a time limit."""
    share = request.database_share or subject.pipeline.options.index.database_share
    order = random.Random(request.seed)  # noqa: S311  no secret
    deadline = None if request.time_limit is None else Deadline.after(request.time_limit)
    progress(0, len(subject.queries))
    for number, query in enumerate(subject.queries, start=1):
        started = time.monotonic()
        with _transaction(database, limit) as connection:
            _compare(connection, subject, query, order.sample(subject.settings, len(subject.settings)))
        progress(number, len(subject.queries))
        pause = (time.monotonic() - started) * (1 / share - 1)
        if number == len(subject.queries) or (deadline is not None and deadline.left.total_seconds() <= pause):
            break
        time.sleep(pause)
    return _report(subject, request)


@contextmanager
def _transaction(database: Database, limit: timedelta) -> Iterator[Connection]:
    try:
        with database.transaction(read_only=True, one_snapshot=True, silence=limit + SILENCE) as connection:
            limit_statements(connection, limit)
            yield connection
    except psycopg.errors.QueryCanceled:
        raise Refused(
            f"a statement took longer than {limit.total_seconds():g} s",
            hint="comparing every vector takes long: raise --statement-timeout, or measure on a standby",
        ) from None


def _compare(connection: Connection, subject: Subject, query: Query, settings: Sequence[Setting]) -> None:
    """Search with each setting, and compare what is found with the true neighbours."""
    recall.session(connection)
    trust.require_trusted(connection, subject.pipeline, whole=subject.compared.condition is not None)
    before = recall.scans(connection, subject.target)
    exact = recall.exact(connection, subject.compared, query)
    if recall.scans(connection, subject.target) != before:  # pragma: no cover - no index has such an order
        raise AssertionError("the exact search has used a vector index")
    recall.avoid_all_but_indexes(connection)
    avoid_other_method(connection, subject.index)
    for setting in settings:
        use(connection, subject.index, setting, iterative=subject.iterates)
        started = time.perf_counter()
        distances = recall.answered(connection, _with(subject.compared, setting), query)
        took = timedelta(seconds=time.perf_counter() - started)
        share = recall_of(exact, distances, subject.compared.k)
        if share is not None:
            subject.answers.setdefault(setting, []).append(Answer(share, len(distances), took))
    _require_used(subject, before, recall.scans(connection, subject.target))
    near = [distance for distance in exact if not math.isnan(distance)]
    if near:
        subject.spread.append(max(near) - min(near))


def _with(compared: Compared, setting: Setting) -> Compared:
    return replace(compared, ef_search=setting.value) if setting.name == DIAL[Method.HNSW] else compared


def _require_used(subject: Subject, before: dict[str, int], after: dict[str, int]) -> None:
    """Raises Refused unless each setting's search has scanned the index once, and none has scanned another."""
    scanned = {name: scans - before.get(name, 0) for name, scans in after.items() if scans != before.get(name, 0)}
    if scanned != {subject.index.name: len(subject.settings)}:
        others = " and ".join(sorted(scanned.keys() - {subject.index.name})) or "no index"
        raise Refused(
            f"some searches have used {others} instead of {subject.index.name}",
            hint="if both can serve these searches, Postgres chooses by the setting: drop one of them "
            f"or measure without --sweep; pgvector-sync index status {subject.name}",
        )


def _report(subject: Subject, request: RecallRequest) -> RecallReport:
    if not subject.answers:
        raise Refused(
            f"no query has a neighbour among the {subject.rows:,} vectors of {subject.name}",
            hint="measure when there are more rows, or with --queries-file",
        )
    results = tuple(
        result_of(setting, subject.answers[setting], planned=setting in subject.planned)
        for setting in subject.settings
    )
    plan = subject.pipeline.options.index
    target = request.target or plan.recall
    column = Storage(subject.pipeline.options.vector_type.value)
    index = MeasuredIndex(
        subject.index.schema, subject.index.name, Method(subject.index.method), subject.compared.storage or column
    )
    return RecallReport(
        pipeline=subject.name,
        index=index,
        rows=subject.rows,
        k=request.k,
        where=request.where,
        source_of_queries=subject.source,
        target=target,
        settings=results,
        smallest=smallest(results, target),
        findings=tuple(
            findings(
                request,
                index,
                results,
                source=subject.source,
                queries=len(subject.queries),
                rows=subject.rows,
                target=target,
                flat=not any(subject.spread) and request.k > 1 and subject.rows > 2,
            )
        ),
    )
