"""Embeds queries, each once while it is remembered."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from pgvector_sync.embedding.embedder import Embedder
from pgvector_sync.errors import InputRejected, ProviderError, Refused
from pgvector_sync.model import Pipeline, Provider, Purpose, Spec
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.model.search import QueryVector
from pgvector_sync.settings import Settings

REMEMBERED = 256
"""The number of queries whose vectors are kept: a next page, or another `where`, needs no call."""
LONG_CHARACTERS = 8_000
"""From this length on, a rejected query is probably too long for the model."""

Question = tuple[Provider, Spec, str]
"""Everything that the vector of a query depends on."""


@dataclass(slots=True)
class QueryMemory:
    """The vectors of the last queries. Threads may share it."""

    size: int = REMEMBERED
    _vectors: OrderedDict[Question, list[float]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def find(self, question: Question) -> list[float] | None:
        with self._lock:
            if question not in self._vectors:
                return None
            self._vectors.move_to_end(question)
            return self._vectors[question]

    def keep(self, question: Question, vector: list[float]) -> None:
        with self._lock:
            self._vectors[question] = vector
            while len(self._vectors) > self.size:
                self._vectors.popitem(last=False)


@dataclass(frozen=True, slots=True)
class QueryEmbedder:
    """Embeds queries as their pipelines say."""

    embedder: Callable[[Provider], Embedder]
    settings: Settings
    memory: QueryMemory = field(default_factory=QueryMemory)

    def prepare(self, pipeline: Pipeline) -> None:
        """Do what a process does once, such as loading a model, which shouldn't count towards a timeout."""
        self.embedder(pipeline.provider).prepare(pipeline.query_spec)

    def embed(self, question: Question, deadline: Deadline | None) -> list[float]:
        """Return the vector of a query. Raises Refused for a blank or very long one, and ProviderError.

        deadline: None for the time that a provider usually has.
        """
        vector = self.memory.find(question)
        if vector is None:
            self._check(question[-1])
            vector = self._call(*question, deadline)
            self.memory.keep(question, vector)
        return vector

    def _check(self, text: str) -> None:
        if not text.strip():
            raise Refused("the query is blank", hint="pass the text to search for")
        size, limit = len(text.encode("utf-8", "replace")), self.settings.text_limit_bytes
        if size > limit:
            raise Refused(f"the query has {size:,} bytes, more than {limit:,}", hint="pass a shorter query")

    def _call(self, provider: Provider, spec: Spec, text: str, deadline: Deadline | None) -> list[float]:
        embedder = self.embedder(provider)
        embedder.prepare(spec)
        deadline = deadline or Deadline.after(self.settings.provider_timeout)
        try:
            embedded = embedder.embed([text], spec, purpose=Purpose.QUERY, deadline=deadline)
        except InputRejected as error:
            if len(text) > LONG_CHARACTERS:
                error.hint = (
                    f"the query has {len(text):,} characters, probably more than {spec.model} accepts: pass a "
                    "shorter one"
                )
            raise
        except ProviderError as error:
            error.hint = error.hint or f"try again; if it recurs: pgvector-sync provider test {provider.name}"
            raise
        return [float(number) for number in embedded.vectors[0]]


def question_of(pipeline: Pipeline, text: str) -> Question:
    """Return what the vector of a query depends on."""
    return pipeline.provider, pipeline.query_spec, text


def query_vector(pipeline: Pipeline, vector: list[float]) -> QueryVector:
    """Return a vector with what it may be compared with."""
    return QueryVector(pipeline.name, pipeline.spec.model, pipeline.spec_version, list(vector))
