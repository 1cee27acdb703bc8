"""The base of dialects that are a provider's own API.

A provider gets one where its OpenAI-compatible API can't do the same: tell documents and queries apart, reject a
text that is too long instead of cutting it off, or say what was billed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pgvector_sync.embedding.dialects.dialect import Limits
from pgvector_sync.embedding.dialects.http import HttpDialect
from pgvector_sync.embedding.network.hosts import address_of
from pgvector_sync.errors import Misconfigured
from pgvector_sync.model import Provider, Purpose, Spec
from pgvector_sync.settings import Settings


class NativeDialect(HttpDialect):
    built_in: Provider
    known_limits: Limits
    sizes: Mapping[str, Sequence[int]] = {}
    """The dimensions that a model offers, where they are documented. A model with one size takes no parameter for
    it."""
    unused_options = frozenset({"dimensions_parameter", "encoding"})
    compatible_path: str | None = None
    """How the address of the provider's OpenAI-compatible API ends, which is another dialect."""

    @abstractmethod
    def parameters(self, spec: Spec, purpose: Purpose) -> dict[str, Any]:
        """Return the parameters that `extra_body` and `body` may override."""

    def merged(self, spec: Spec, purpose: Purpose, provider: Provider) -> dict[str, Any]:
        """Return the parameters with those of the provider's section, then those of the pipeline's."""
        return {**self.parameters(spec, purpose), **provider.extra_body, **spec.body}

    def adapts(self, spec: Spec) -> bool:
        document, query = (self.parameters(spec, purpose) for purpose in (Purpose.DOCUMENT, Purpose.QUERY))
        return document != query

    def limits(self, provider: Provider) -> Limits:
        return self.known_limits.overridden(provider)

    def takes_size(self, model: str) -> bool:
        """Whether a request for this model may name the vectors' size."""
        return len(self.sizes.get(model, ())) != 1

    def checked_address(self, provider: Provider, settings: Settings) -> str:
        address = address_of(provider, settings).rstrip("/")
        if self.compatible_path is not None and address.endswith(self.compatible_path):
            raise Misconfigured(
                f"this is the address of an OpenAI-compatible API, and the provider's dialect is {self.name}",
                code="bad_address",
                option="base_url",
                hint=f'set dialect = "openai", or remove base_url: {self.name} is at {self.built_in.base_url}',
            )
        return super().checked_address(provider, settings)

    def check_specs(self, specs: Iterable[Spec]) -> Iterator[Misconfigured | None]:
        for spec in specs:
            sizes = self.sizes.get(spec.model)
            if sizes is None or spec.dimensions in sizes:
                yield None
            else:
                expected = ", ".join(map(str, sizes))
                yield Misconfigured(
                    f"expected {expected} for {spec.model}, got {spec.dimensions}",
                    code="wrong_dimensions",
                    option="dimensions",
                )
