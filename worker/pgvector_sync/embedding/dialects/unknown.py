"""The stand-in for a dialect that this program doesn't know: only its own pipelines fail, as misconfigured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import NoReturn

from pgvector_sync.embedding.dialects.dialect import Dialect, Limits
from pgvector_sync.errors import Misconfigured
from pgvector_sync.model import Provider, Purpose, Spec
from pgvector_sync.settings import Settings


class Unknown(Dialect):
    """A dialect of this name that fails at every call."""

    needs_address = False
    takes_key = True
    remote = True
    billed = True

    def __init__(self, name: str) -> None:
        self.name = name

    def limits(self, provider: Provider) -> Limits:
        del provider
        return Limits(max_inputs=1)

    def place(self, provider: Provider, settings: Settings | None = None) -> str:
        del settings
        return provider.base_url or "unknown address"

    def setting_of_place(self, provider: Provider, settings: Settings) -> str:
        del settings
        return f"dialect of {provider.name}"

    def connect(self, provider: Provider, settings: Settings, environ: Mapping[str, str]) -> _Refusing:
        del settings, environ
        return _Refusing(provider)


class _Refusing:
    """A `Connection` that fails at every call."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def prepare(self, spec: Spec) -> NoReturn:
        del spec
        # not quoted: any text may have been written into the table
        raise Misconfigured(
            f"this version of pgvector-sync doesn't know the dialect of {self._provider.name}",
            code="unknown_dialect",
            hint="upgrade pgvector-sync where the workers run, or correct `dialect` in the file, then: "
            "pgvector-sync apply",
        )

    def call(self, texts: Sequence[str], spec: Spec, purpose: Purpose, *, timeout: timedelta) -> NoReturn:
        del texts, purpose, timeout
        self.prepare(spec)

    def close(self) -> None:
        """Nothing is open."""
