"""How is a provider spoken to? Every dialect, by the name that a provider's `dialect` gives.

To add one, write its file beside the others and list it in `DIALECTS`.
"""

from __future__ import annotations

from pgvector_sync.embedding.dialects.dialect import Dialect
from pgvector_sync.embedding.dialects.local import Local
from pgvector_sync.embedding.dialects.openai_compatible import OpenAICompatible
from pgvector_sync.embedding.dialects.unknown import Unknown
from pgvector_sync.model import Provider

DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in (OpenAICompatible(), Local())}


def dialect_of(provider: Provider) -> Dialect:
    """The dialect of a provider. Never fails, see `dialect_named`."""
    return dialect_named(provider.dialect)


def dialect_named(name: str) -> Dialect:
    """The dialect of this name. Where a newer program has stored one that this program doesn't know, every call to
    it fails as misconfigured: a worker goes on with all its other pipelines.
    """
    return DIALECTS.get(name) or Unknown(name)


def built_in_providers() -> dict[str, Provider]:
    """Providers that need no section in the file, by name."""
    built_in = (dialect.built_in for dialect in DIALECTS.values())
    return {provider.name: provider for provider in built_in if provider is not None}


def preload() -> None:
    """Imports what all remote dialects need, which takes a second: best done once, before a worker forks."""
    import pgvector_sync.embedding.http_connection  # noqa: F401
