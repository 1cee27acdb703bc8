"""The check `limits`: what limits a request to the pipeline's provider, and which of it had to be learned."""

from __future__ import annotations

from collections.abc import Iterator

from pgvector_sync.embedding.dialects import dialect_of
from pgvector_sync.embedding.learning import tokens_in_time
from pgvector_sync.model import Pipeline
from pgvector_sync.observe.finding import Finding, ok
from pgvector_sync.runtime import Runtime


def of_requests(runtime: Runtime, pipeline: Pipeline) -> Iterator[Finding]:
    provider, known = pipeline.provider, pipeline.learned
    if words := known.words():
        settings = known.settings()
        tokens = tokens_in_time(known, runtime.settings.longest_call)
        if tokens is not None:
            settings["max_request_tokens"] = min(tokens, settings.get("max_request_tokens", tokens))
        lines = ", ".join(f"{name} = {value}" for name, value in settings.items())
        yield ok(
            f"learned: {', '.join(words)}",
            f"to know it from the start, write into [providers.{provider.name}]: {lines}",
        )
        return
    limits = dialect_of(provider).limits(provider)
    seen = f"{limits.max_inputs:,} inputs"
    if limits.max_request_tokens is not None:
        seen += f" and {limits.max_request_tokens:,} tokens"
    yield ok(f"{seen} per request; no lower limit was met")
