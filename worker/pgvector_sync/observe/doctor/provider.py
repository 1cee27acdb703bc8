"""The check `provider`: this environment allows the call, has the key, and gets a vector of the right size."""

from __future__ import annotations

import time
from collections.abc import Iterator

from pgvector_sync.batch.bisection import PROBE_TEXT
from pgvector_sync.embedding.dialects import dialect_of
from pgvector_sync.errors import ProviderError
from pgvector_sync.model import Pipeline, Provider, Purpose, Spec
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.observe.finding import Finding, error, ok, warning
from pgvector_sync.runtime import Runtime


class Probe:
    """Embeds one short text per provider and spec, even if several pipelines share them.

    Queries are tried as well if another model or other parameters embed them.
    """

    def __init__(self, runtime: Runtime, *, offline: bool) -> None:
        self._runtime = runtime
        self._offline = offline
        self._findings: dict[tuple[Provider, Spec, Purpose], Finding] = {}

    def __call__(self, pipeline: Pipeline) -> Iterator[Finding]:
        documents, queries = pipeline.spec, pipeline.query_spec
        yield self._found(pipeline.provider, documents, Purpose.DOCUMENT)
        if (queries.model, queries.body) != (documents.model, documents.body):
            yield self._found(pipeline.provider, queries, Purpose.QUERY)

    def _found(self, *call: *tuple[Provider, Spec, Purpose]) -> Finding:
        if call not in self._findings:
            self._findings[call] = self._try(*call)
        return self._findings[call]

    def _try(self, provider: Provider, spec: Spec, purpose: Purpose) -> Finding:
        dialect = dialect_of(provider)
        model = spec.model if purpose is Purpose.DOCUMENT else f"{spec.model} for queries"
        label = f"{provider.name}, {model}, {dialect.place(provider, self._runtime.settings)}"
        embedder = self._runtime.embedder(provider)
        try:
            embedder.prepare(spec)
            if dialect.remote and self._offline:
                return ok(f"{label}: host allowed, key set; not called because of --offline")
            started = time.monotonic()
            deadline = Deadline.after(self._runtime.settings.provider_timeout)
            embedder.embed([PROBE_TEXT], spec, purpose=purpose, deadline=deadline)
        except ProviderError as failure:
            setting = dialect.setting_of_place(provider, self._runtime.settings)
            return _finding(failure, f"{provider.name}, {model}: {failure}", setting)
        took = (time.monotonic() - started) * 1000
        return ok(f"{label}: returned {spec.dimensions} dimensions in {took:.0f} ms")


def _finding(failure: ProviderError, seen: str, setting: str) -> Finding:
    """Return an error, or a warning if a worker would simply retry."""
    finding = warning if failure.expected else error
    return finding(seen, failure.hint or failure.advice.format(setting=setting))
