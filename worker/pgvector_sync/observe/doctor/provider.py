"""The provider: whether this environment lets it be called, holds its key, and gets a vector of the right size."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

from pgvector_sync.batch.bisection import PROBE_TEXT
from pgvector_sync.embedding.embedder import Embedder
from pgvector_sync.embedding.hosts import OPENAI_BASE_URL, address_of, setting_of_address
from pgvector_sync.errors import OutOfTime, ProviderError
from pgvector_sync.model import Pipeline, Provider, Spec
from pgvector_sync.observe.doctor.check import Finding, error, ok, warning
from pgvector_sync.runtime import Runtime
from pgvector_sync.settings import Settings


class Probe:
    """Embeds one short text for each provider and spec, however many pipelines share them."""

    def __init__(self, runtime: Runtime, *, offline: bool) -> None:
        self._runtime = runtime
        self._offline = offline
        self._known: dict[tuple[Provider, Spec], Finding] = {}

    def __call__(self, pipeline: Pipeline) -> Iterator[Finding]:
        asked = (pipeline.provider, pipeline.spec)
        if asked not in self._known:
            self._known[asked] = self._ask(*asked)
        yield self._known[asked]

    def _ask(self, provider: Provider, spec: Spec) -> Finding:
        remote = provider.base_url is not None
        where = _address(provider, self._runtime.settings) if remote else "in this process"
        label = f"{provider.name}, {spec.model}, {where}"
        embedder = self._runtime.embedder(provider)
        limit = self._runtime.settings.provider_timeout.total_seconds()
        try:
            _prepare(embedder, spec)
            if remote and self._offline:
                return ok(f"{label}: host allowed, key set; not called, since --offline")
            started = time.monotonic()
            embedder.embed([PROBE_TEXT], spec, deadline=started + limit)
        except ProviderError as failure:
            setting = setting_of_address(provider, self._runtime.settings)
            return _sorted(failure, f"{provider.name}, {spec.model}: {failure}", setting)
        took = (time.monotonic() - started) * 1000
        return ok(f"{label}: a vector of {spec.dimensions} dimensions in {took:.0f} ms")


def _address(provider: Provider, settings: Settings) -> str:
    address, setting = address_of(provider, settings), setting_of_address(provider, settings)
    return f"{address} ({setting})" if setting == OPENAI_BASE_URL else address


def _prepare(embedder: Embedder, spec: Spec) -> None:
    """A call whose deadline has passed: host and key are checked, a local model is loaded, and nothing is sent.

    Raises Misconfigured.
    """
    with suppress(OutOfTime):
        embedder.embed([PROBE_TEXT], spec, deadline=0.0)


def _sorted(failure: ProviderError, seen: str, setting: str) -> Finding:
    """What to do differs from what a worker does: a worker waits, a person may look."""
    finding = warning if failure.expected else error
    return finding(seen, failure.hint or failure.advice.format(setting=setting))
