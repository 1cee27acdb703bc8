"""Search: embed the query and read the nearest rows, joined to the source so that deleted rows are never returned.

The query's vector is compared only with vectors of the same model (G16). The transaction that searches reads the
pipeline, and takes the vector that was made as that pipeline says. If there is none yet, it ends, the query is
embedded, and another transaction begins. The search itself compares the stored vectors' model, and returns the
pipeline's version in its own snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import psycopg

from pgvector_sync.database import INSTALL_HINT, Connection, limit_statements
from pgvector_sync.errors import OutOfTime, Refused
from pgvector_sync.model import Pipeline, State, Storage
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.model.search import Hits, QueryVector, Request
from pgvector_sync.observe.query import QueryEmbedder, Question, query_vector, question_of
from pgvector_sync.observe.query_sampling import QuerySampler
from pgvector_sync.observe.search_errors import explained
from pgvector_sync.observe.search_request import (
    may_be_halved,
    page_token,
    require_comparable,
    require_types,
    wanted_of,
)
from pgvector_sync.runtime import Runtime
from pgvector_sync.settings import Settings
from pgvector_sync.store import grants, pipelines, search
from pgvector_sync.store.conditions import Condition, KnownConditions
from pgvector_sync.store.search import Found, Prepared, Wanted
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
    conditions: KnownConditions = field(default_factory=KnownConditions)
    sampler: QuerySampler | None = None

    @classmethod
    def of(cls, runtime: Runtime) -> Searcher:
        """Return a searcher with a memory of its own."""
        queries = QueryEmbedder(runtime.embedder, runtime.settings)
        return cls(runtime.settings, queries, lambda: runtime.database.transaction(read_only=True))

    def embed(self, name: str, text: str, *, timeout: timedelta | None = None) -> QueryVector:
        """Return the vector of a query. Raises Refused, and ProviderError."""
        require_types(pipeline=name, query=text, timeout=timeout)
        with self.reading() as connection:
            pipeline = _pipeline(connection, name)
        self.queries.prepare(pipeline)
        vector = query_vector(pipeline, self.queries.embed(question_of(pipeline, text), _deadline(timeout)))
        if self.sampler is not None:
            self.sampler.offer(vector)
        return vector

    def search(
        self, name: str, query: str | QueryVector, request: Request, *, reading: Reading | None = None
    ) -> Hits:
        """Return the nearest rows, nearest first. Raises Refused, DatabaseRefuses and ProviderError.

        reading: opens the transaction that searches, if it isn't one of ours.
        """
        asked: list[QueryVector] = []

        def read(ready: _Ready) -> Hits | None:
            asked.append(ready.query)
            return _hits(ready)

        hits = self._carry_out(name, query, request, reading, read)
        # the result of `embed_query` was offered there, and a further page is the same query
        if self.sampler is not None and isinstance(query, str) and request.after is None:
            self.sampler.offer(asked[-1])
        return hits

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
        require_types(pipeline=name, query=query, timeout=request.timeout, where=request.where)
        condition = None if request.where is None else Condition.with_params(request.where, request.params)
        vectors: dict[Question, list[float]] = {}
        deadline: Deadline | None = None
        for _ in range(TRIES + 1):
            with (reading or self.reading)() as connection:
                pipeline = _pipeline(connection, name)
                vector = query if isinstance(query, QueryVector) else self._known(pipeline, query, vectors)
                if vector is not None:
                    deadline = deadline or _deadline(request.timeout)
                limit = self._time_limit(deadline)
                with explained(pipeline, limit, condition):
                    limit_statements(connection, limit)
                    shape, wanted, prepared = self._checked(connection, pipeline, request, condition)
                    if vector is not None:
                        require_comparable(vector, pipeline)
                        if prepared.through is not Storage.HALFVEC or may_be_halved(vector):
                            wanted = search.planned(connection, shape, vector, wanted, prepared)
                        result = read(_Ready(connection, shape, vector, wanted, Deadline.after(limit)))
                        if result is not None:
                            return result
            if vector is None and isinstance(query, str):
                self.queries.prepare(pipeline)
                deadline = deadline or _deadline(request.timeout)
                question = question_of(pipeline, query)
                vectors[question] = self.queries.embed(question, deadline)
        raise Refused(f"{name} was changed several times during the search", hint="search again")

    def _known(
        self, pipeline: Pipeline, query: str, vectors: Mapping[Question, list[float]]
    ) -> QueryVector | None:
        question = question_of(pipeline, query)
        vector = vectors.get(question) or self.queries.memory.find(question)
        return None if vector is None else query_vector(pipeline, vector)

    def _checked(
        self, connection: Connection, pipeline: Pipeline, request: Request, condition: Condition | None
    ) -> tuple[Shape, Wanted, Prepared]:
        """Check the request, and make the settings for it. Nothing is paid for an invalid one."""
        wanted = wanted_of(connection, pipeline, request, condition)
        prepared = search.prepare(connection, pipeline, wanted)
        if prepared is None:
            raise Refused("the extension vector is not installed in this database", hint=INSTALL_HINT)
        shape = Shape(pipeline, prepared.vector_schema)
        require_trusted(connection, pipeline, whole=condition is not None)
        if condition is not None:
            self.conditions.require_valid(connection, shape, condition)
        return shape, wanted, prepared

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


def _hits(ready: _Ready) -> Hits | None:
    arguments = ready.connection, ready.shape, ready.query, ready.wanted
    found, complete = search.nearest(*arguments), True
    if found.candidates < ready.wanted.limit and (ready.wanted.through or search.is_approximate(*arguments)):
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
