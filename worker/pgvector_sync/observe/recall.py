"""`index recall`: embeds the queries that are texts, and measures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pgvector_sync.errors import Refused
from pgvector_sync.index.recall import OnProgress, RecallReport, RecallRequest, measure
from pgvector_sync.model import Pipeline, Purpose
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.observe.query import query_vector
from pgvector_sync.observe.search_errors import explained
from pgvector_sync.observe.search_request import require_comparable
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import grants, pipelines, query_samples
from pgvector_sync.store.conditions import Condition

TEXTS_PER_CALL = 32
"""Bounds what is paid for before a failure is noticed. A provider's own limit may be lower."""
Queries = Sequence[str] | Sequence[Sequence[float]]
"""Texts, or vectors."""


def index_recall(
    runtime: Runtime,
    name: str,
    request: RecallRequest,
    queries: Queries | None,
    progress: OnProgress,
    *,
    logged: bool = False,
) -> RecallReport:
    """Measure the recall of a pipeline's index. Raises Refused, DatabaseRefuses and ProviderError.

    queries: None for what the request says.
    logged: the queries are the newest that were sampled, as many as the request says.
    """
    with runtime.database.transaction(read_only=True) as connection:
        pipeline = pipelines.require_pipeline(connection, name)
        grants.require_sole_author(connection)
        if logged:
            sampled = query_samples.recent(connection, pipeline, limit=request.queries)
            if not sampled:
                raise Refused(
                    f"no query of {name} has been sampled for {pipeline.spec.model}",
                    hint="set PGVECTOR_SYNC_SAMPLE_QUERIES where the application searches, or use --queries-file",
                )
            request = replace(request, vectors=sampled, source="logged")
    if queries is not None:
        request = replace(request, vectors=list(_vectors(runtime, pipeline, queries)))
    condition = None if request.where is None else Condition.with_params(request.where, None)
    limit = request.statement_timeout or runtime.settings.page_limit
    with explained(pipeline, limit, condition):
        return measure(runtime.database, runtime.settings, name, request, progress=progress)


def _vectors(runtime: Runtime, pipeline: Pipeline, queries: Queries) -> Iterator[list[float]]:
    """Return the vectors of queries. Texts are embedded as those of `search`."""
    texts = [query for query in queries if isinstance(query, str)]
    given = [[float(number) for number in query] for query in queries if not isinstance(query, str)]
    if texts and given:
        raise Refused("expected either texts or vectors as queries, got both", hint="measure each kind by itself")
    vectors = _embedded(runtime, pipeline, texts) if texts else iter(given)
    for number, vector in enumerate(vectors, start=1):
        try:
            require_comparable(query_vector(pipeline, vector), pipeline)
        except Refused as error:
            raise Refused(f"query {number}: {error}", hint=error.hint) from None
        yield vector


def _embedded(runtime: Runtime, pipeline: Pipeline, texts: Sequence[str]) -> Iterator[list[float]]:
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            raise Refused(f"query {number} is blank", hint="pass the texts that people search for")
    embedder, spec = runtime.embedder(pipeline.provider), pipeline.query_spec
    embedder.prepare(spec)
    for start in range(0, len(texts), TEXTS_PER_CALL):
        deadline = Deadline.after(runtime.settings.provider_timeout)
        part = texts[start : start + TEXTS_PER_CALL]
        embedded = embedder.embed(part, spec, purpose=Purpose.QUERY, deadline=deadline)
        if embedded.failure is not None:
            raise embedded.failure
        yield from ([float(number) for number in vector] for vector in embedded.vectors)
