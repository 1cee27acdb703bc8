"""Events about calls of a provider."""

from __future__ import annotations

from pgvector_sync.telemetry.event import Event, Level, event


@event("provider_answered", Level.DEBUG)
class ProviderAnswered(Event):
    """A provider has answered a call; `seconds` is how long it took."""

    provider: str
    model: str
    request_id: str | None
    inputs: int
    tokens: int | None
    seconds: float
    attempt: int


@event("provider_call_failed")
class ProviderCallFailed(Event):
    """A call failed, or a retry of it (`attempt` above 1). What follows has its own event, such as `parked`."""

    provider: str
    model: str
    error: type[BaseException]
    error_class: str
    status: int | None
    code: str | None
    request_id: str | None
    inputs: int
    seconds: float
    attempt: int
