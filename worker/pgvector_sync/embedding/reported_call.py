"""Reports each call of a provider, as an event and as a span: what came of it, and nothing of what was sent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pgvector_sync.embedding.dialects.dialect import Connection
from pgvector_sync.errors import ProviderError
from pgvector_sync.model import Provider, Purpose, Spec
from pgvector_sync.telemetry import emit, spans
from pgvector_sync.telemetry.events.provider import ProviderAnswered, ProviderCallFailed
from pgvector_sync.telemetry.spans import Attributes

if TYPE_CHECKING:
    from pgvector_sync.embedding.answer import Answer

PROVIDER_NAMES = {"gemini": "gcp.gemini"}
"""Names that OpenTelemetry gives to the providers of a dialect, where they aren't the dialect's."""
HTTP_STATUS = "http.response.status_code"
REQUEST_ID = "pgvector_sync.request_id"


def reported_call(
    connection: Connection,
    provider: Provider,
    texts: Sequence[str],
    spec: Spec,
    purpose: Purpose,
    *,
    timeout: timedelta,
    attempt: int,
) -> Answer:
    """Make one call, as `Connection.call` does, and report it. `attempt` counts from 1."""
    attributes = _attributes(provider, spec, inputs=len(texts), attempt=attempt) if spans.tracing() else {}
    with spans.span(f"embeddings {spec.model}", attributes, kind="CLIENT") as span:
        started = time.monotonic()
        try:
            answer = connection.call(texts, spec, purpose, timeout=timeout)
        except ProviderError as error:
            _report_failure(error, provider, spec, inputs=len(texts), seconds=_since(started), attempt=attempt)
            span.set(_known(HTTP_STATUS, error.status) | _known(REQUEST_ID, error.request_id))
            raise
        _report(answer, provider, spec, inputs=len(texts), seconds=_since(started), attempt=attempt)
        span.set(_known("gen_ai.usage.input_tokens", answer.tokens) | _known(REQUEST_ID, answer.request_id))
        return answer


def _report_failure(
    error: ProviderError, provider: Provider, spec: Spec, *, inputs: int, seconds: float, attempt: int
) -> None:
    emit(
        ProviderCallFailed(
            provider=provider.name,
            model=spec.model,
            error=type(error),
            error_class=error.name,
            status=error.status,
            code=error.code,
            request_id=error.request_id,
            inputs=inputs,
            seconds=seconds,
            attempt=attempt,
        )
    )


def _report(answer: Answer, provider: Provider, spec: Spec, *, inputs: int, seconds: float, attempt: int) -> None:
    emit(
        ProviderAnswered(
            provider=provider.name,
            model=spec.model,
            request_id=answer.request_id,
            inputs=inputs,
            tokens=answer.tokens,
            seconds=seconds,
            attempt=attempt,
        )
    )


def _attributes(provider: Provider, spec: Spec, *, inputs: int, attempt: int) -> Attributes:
    return {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": PROVIDER_NAMES.get(provider.dialect, provider.dialect),
        "gen_ai.request.model": spec.model,
        "gen_ai.embeddings.dimension.count": spec.dimensions,
        "pgvector_sync.provider": provider.name,
        "pgvector_sync.inputs": inputs,
        "pgvector_sync.attempt": attempt,
        **_place(provider.base_url),
    }


@lru_cache
def _place(address: str | None) -> Attributes:
    """Return host and port of an address that a call has accepted, and nothing if it isn't valid."""
    try:
        parts = urlsplit(address or "")
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return {}
    return _known("server.address", parts.hostname) | (_known("server.port", port) if parts.hostname else {})


def _known(name: str, value: str | int | None) -> dict[str, str | int]:
    return {} if value is None else {name: value}


def _since(started: float) -> float:
    return round(time.monotonic() - started, 4)
