"""Search: embed the query and read the nearest rows, joined to the source so that deleted rows are never returned.

The query's vector is compared only with vectors of the same model (G16). The pipeline is read before the query is
embedded, and again in the transaction that searches. If what the vector depends on has changed meanwhile, the
query is embedded again. The search itself compares the stored vectors' model, and returns the pipeline's version
in its own snapshot.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import psycopg

from pgvector_sync.database import Connection, limit_statements
from pgvector_sync.database.session import find_vectors
from pgvector_sync.errors import OutOfTime, Refused
from pgvector_sync.model import Pipeline, State
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.model.search import Hits, QueryVector, Request
from pgvector_sync.observe.query import QueryEmbedder, QueryMemory
from pgvector_sync.observe.search_errors import explained
from pgvector_sync.observe.search_request import page_token, require_comparable, wanted_of
from pgvector_sync.runtime import Runtime
from pgvector_sync.settings import Settings
from pgvector_sync.store import conditions, grants, pipelines, search
from pgvector_sync.store.conditions import Condition
from pgvector_sync.store.search import Found, Wanted
from pgvector_sync.store.shape import Shape
from pgvector_sync.store.trust import require_trusted

TRIES = 3
"""How often a search begins again because the pipeline was changed meanwhile."""
SHORTEST_READ = timedelta(milliseconds=20)
"""With less time left than this, no search is begun."""
Reading = Callable[[], AbstractContextManager[Connection]]
"""Opens a read-only transaction."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Ready:
    """A search that has been checked, in the transaction that carries it out."""

    connection: Connection
    shape: Shape
    query: QueryVector
    wanted: Wanted
    until: Deadline


@dataclass(frozen=True, slots=True)
class Searcher:
    """Searches one database."""

    settings: Settings
    queries: QueryEmbedder
    reading: Reading

    @classmethod
    def of(cls, runtime: Runtime) -> Searcher:
        """Return a searcher that remembers no query after it."""
        queries = QueryEmbedder(runtime.embedder, runtime.settings, QueryMemory())
        return cls(runtime.settings, queries, lambda: runtime.database.transaction(read_only=True))

    def embed(self, name: str, text: str, *, timeout: timedelta | None = None) -> QueryVector:
        """Return the vector of a query. Raises Refused, and ProviderError."""
        pipeline = self._read_pipeline(name)
        self.queries.prepare(pipeline)
        return self.queries.embed(pipeline, text, _deadline(timeout))

    def search(
        self, name: str, query: str | QueryVector, request: Request, *, reading: Reading | None = None
    ) -> Hits:
        """Return the nearest rows, nearest first. Raises Refused, DatabaseRefuses and ProviderError.

        reading: opens the transaction that searches, if it isn't one of ours.
        """
        return self._carry_out(name, query, request, reading, _hits)

    def explain(
        self, name: str, query: str | QueryVector, request: Request, *, reading: Reading | None = None
    ) -> list[str]:
        """Carry out the same search, and return the lines of its plan."""
        return self._carry_out(name, query, request, reading, _plan)

    def _carry_out(
        self,
        name: str,
        query: str | QueryVector,
        request: Request,
        reading: Reading | None,
        read: Callable[[_Ready], T | None],
    ) -> T:
        """Return the result of `read`, which is None if the pipeline changed meanwhile."""
        condition = None if request.where is None else Condition.with_params(request.where, request.params)
        pipeline = self._read_pipeline(name)
        if isinstance(query, str):
            self.queries.prepare(pipeline)
        deadline = _deadline(request.timeout)
        for _ in range(TRIES):
            vector = query if isinstance(query, QueryVector) else self.queries.embed(pipeline, query, deadline)
            limit = self._time_limit(deadline)
            with (reading or self.reading)() as connection:
                current = _pipeline(connection, name)
                if not isinstance(query, QueryVector) and _differs(pipeline, current):
                    pipeline = current
                    continue
                require_comparable(vector, current)
                with explained(current, limit, condition=condition is not None):
                    limit_statements(connection, limit)
                    wanted = wanted_of(connection, current, request, condition)
                    shape = _shape(connection, current)
                    ready = _Ready(connection, shape, vector, wanted, Deadline.after(limit))
                    _prepare(ready)
                    result = read(ready)
            if result is not None:
                return result
        raise Refused(f"{name} was changed several times during the search", hint="search again")

    def _read_pipeline(self, name: str) -> Pipeline:
        with self.reading() as connection:
            return _pipeline(connection, name)

    def _time_limit(self, deadline: Deadline | None) -> timedelta:
        """Return the time limit of one statement. Raises OutOfTime if the search has no time left."""
        if deadline is None:
            return self.settings.page_limit
        if deadline.left < SHORTEST_READ:
            raise OutOfTime("there was no time left to search", hint="search again, with a longer timeout")
        return min(self.settings.page_limit, deadline.left)


def nearest(runtime: Runtime, name: str, query: str, *, k: int) -> Hits:
    """Return the `k` nearest rows, for commands that search once."""
    return Searcher.of(runtime).search(name, query, Request(k=k))


def _deadline(timeout: timedelta | None) -> Deadline | None:
    return None if timeout is None else Deadline.after(timeout)


def _pipeline(connection: Connection, name: str) -> Pipeline:
    pipeline = pipelines.require_pipeline(connection, name)
    grants.require_sole_author(connection)
    if pipeline.state is State.REMOVING:
        raise Refused(f"{name} is being removed", hint=f"finish with: pgvector-sync remove {name}")
    return pipeline


def _differs(embedded: Pipeline, current: Pipeline) -> bool:
    """Whether the query has to be embedded again, because what its vector depends on has changed."""
    return any(
        before != now
        for before, now in (
            (embedded.provider, current.provider),
            (embedded.query_spec, current.query_spec),
            (embedded.spec.model, current.spec.model),
        )
    )


def _shape(connection: Connection, pipeline: Pipeline) -> Shape:
    vectors = find_vectors(connection)
    if vectors is None:
        raise Refused("the extension vector is not installed in this database", hint="run `pgvector-sync migrate`")
    return Shape(pipeline, vectors.schema)


def _prepare(ready: _Ready) -> None:
    condition = ready.wanted.condition
    search.prepare(ready.connection, ready.wanted)
    require_trusted(ready.connection, ready.shape.pipeline, whole=condition is not None)
    if condition is not None:
        conditions.require_valid(ready.connection, ready.shape, condition)


def _hits(ready: _Ready) -> Hits | None:
    arguments = ready.connection, ready.shape, ready.query, ready.wanted
    found, complete = search.nearest(*arguments), True
    if found.candidates < ready.wanted.limit and search.is_approximate(*arguments):
        # the scan of the index has ended before it found enough rows: there may be more
        exact = _all_compared(ready)
        found, complete = exact or found, exact is not None
    if found.spec_version != ready.shape.pipeline.spec_version:
        return None
    full = len(found.hits) == ready.wanted.limit
    return Hits(
        found.hits,
        ready.query.model,
        next=page_token(ready.query.model, found.hits[-1]) if full else None,
        complete=complete,
    )


def _all_compared(ready: _Ready) -> Found | None:
    """Search without the index. Returns None if there is too little time for that."""
    if ready.until.left < SHORTEST_READ:
        return None
    try:
        with ready.connection.transaction():
            limit_statements(ready.connection, ready.until.left)
            return search.nearest(ready.connection, ready.shape, ready.query, ready.wanted, exact=True)
    except psycopg.errors.QueryCanceled:
        return None


def _plan(ready: _Ready) -> list[str]:
    return search.explain(ready.connection, ready.shape, ready.query, ready.wanted)
