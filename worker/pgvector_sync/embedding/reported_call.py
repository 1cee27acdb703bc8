"""Reports each call of a provider: its outcome, duration and id, but nothing of what was sent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from pgvector_sync.embedding.dialects.dialect import Connection
from pgvector_sync.errors import ProviderError
from pgvector_sync.model import Provider, Purpose, Spec
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.provider import ProviderAnswered, ProviderCallFailed

if TYPE_CHECKING:
    from pgvector_sync.embedding.answer import Answer


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
    """Make one call, as `Connection.call` does, and emit an event about it. `attempt` counts from 1."""
    started = time.monotonic()
    try:
        answer = connection.call(texts, spec, purpose, timeout=timeout)
    except ProviderError as error:
        emit(
            ProviderCallFailed(
                provider=provider.name,
                model=spec.model,
                error=type(error),
                error_class=error.name,
                status=error.status,
                code=error.code,
                request_id=error.request_id,
                inputs=len(texts),
                seconds=_since(started),
                attempt=attempt,
            )
        )
        raise
    emit(
        ProviderAnswered(
            provider=provider.name,
            model=spec.model,
            request_id=answer.request_id,
            inputs=len(texts),
            tokens=answer.tokens,
            seconds=_since(started),
            attempt=attempt,
        )
    )
    return answer


def _since(started: float) -> float:
    return round(time.monotonic() - started, 4)
