"""The dialects in which providers are called, by the name in a provider's `dialect`.

To add one, write its file next to the others and list it in `DIALECTS`.
"""

from __future__ import annotations

from pgvector_sync.embedding.dialects.cohere import Cohere
from pgvector_sync.embedding.dialects.dialect import Dialect
from pgvector_sync.embedding.dialects.gemini import Gemini
from pgvector_sync.embedding.dialects.local import Local
from pgvector_sync.embedding.dialects.openai_compatible import OpenAICompatible
from pgvector_sync.embedding.dialects.unknown import Unknown
from pgvector_sync.embedding.dialects.voyage import Voyage
from pgvector_sync.model import Provider

_KNOWN: tuple[Dialect, ...] = (OpenAICompatible(), Local(), Cohere(), Voyage(), Gemini())
DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in _KNOWN}


def dialect_of(provider: Provider) -> Dialect:
    """Return the dialect of a provider. Never fails, see `dialect_named`."""
    return dialect_named(provider.dialect)


def dialect_named(name: str) -> Dialect:
    """Return the dialect of this name. Never fails.

    A newer program may have stored a dialect that this one doesn't know. Calls to it then fail as misconfigured,
    and a worker continues with its other pipelines.
    """
    return DIALECTS.get(name) or Unknown(name)


def built_in_providers() -> dict[str, Provider]:
    """Return the providers that need no section in the file, by name."""
    built_in = (dialect.built_in for dialect in DIALECTS.values())
    return {provider.name: provider for provider in built_in if provider is not None}


def preload() -> None:
    """Import what all remote dialects need. This takes a second, so a worker does it once before it forks."""
    import pgvector_sync.embedding.network.http_connection  # noqa: F401
