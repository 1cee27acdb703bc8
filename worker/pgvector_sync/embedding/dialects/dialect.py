"""The interface of a dialect.

Packing, parallel requests, budget, retries and deadlines are in `provider_embedder`.
A dialect is a stateless description that is cheap to import: commands use it without loading a model or an SDK.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from pgvector_sync.embedding.dialects.known import Known
from pgvector_sync.errors import Misconfigured
from pgvector_sync.model import Provider, Purpose, Spec
from pgvector_sync.settings import Settings

if TYPE_CHECKING:
    from pgvector_sync.embedding.answer import Answer


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one request, and how many requests of one batch may be in flight."""

    max_inputs: int
    max_request_tokens: int | None = None
    """None means that tokens are neither limited nor counted."""
    max_input_tokens: int | None = None
    """A longer text is sent alone, so that its rejection affects no other text."""
    parallel_requests: int = 1
    max_request_bytes: int | None = None
    """A limit that was learned, see `learning`."""
    counts_inputs: bool = False
    """Whether the provider's limit per minute, and so `requests_per_minute`, is one of texts."""

    def overridden(self, by: Provider | Known) -> Limits:
        """Return these limits with those that the provider's section gives, or that its host is known to have.

        An input has no more tokens than its request, whatever limit is known for inputs.
        """
        request_tokens = by.max_request_tokens or self.max_request_tokens
        input_tokens = by.max_input_tokens or self.max_input_tokens
        if request_tokens is not None and input_tokens is not None:
            input_tokens = min(input_tokens, request_tokens)
        return replace(
            self,
            max_inputs=by.max_inputs or self.max_inputs,
            max_request_tokens=request_tokens,
            max_input_tokens=input_tokens,
        )


class Connection(Protocol):
    """One provider that can be called from any thread and, after a fork, from any process."""

    def prepare(self, spec: Spec) -> None:
        """Do everything except a call: check host and key, or load the model. Raises Misconfigured."""
        ...

    def call(self, texts: Sequence[str], spec: Spec, purpose: Purpose, *, timeout: timedelta) -> Answer:
        """Send one request, which must be within the dialect's limits, and return its checked answer.

        Raises ProviderError: TimedOut after `timeout`, RateLimited, Unavailable, BrokenContract, Misconfigured or
        InputRejected.
        """
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


class Dialect(ABC):
    """How one kind of provider is called, and what holds for all providers of that kind."""

    name: str
    """The value of `dialect` in the file and in the database."""
    built_in: Provider | None = None
    """The provider of this dialect that needs no section in the file."""
    needs_address: bool
    """Whether `base_url` is required. If not, it isn't allowed."""
    endpoint: str | None = None
    """What a call appends to `base_url`, which therefore must not contain it."""
    takes_key: bool
    """Whether `api_key_env` is allowed."""
    key_headers: frozenset[str] = frozenset()
    """The headers that carry the key, in lower case."""
    unused_options: frozenset[str] = frozenset()
    """The options of a provider's section that have no meaning for this dialect, and aren't allowed."""
    remote: bool
    """Whether a call sends texts out of this process and may hang. `doctor --offline` makes no such call."""
    billed: bool
    """Whether calls may cost money."""
    own_parameters: Mapping[str, str] | None = None
    """The parameters that the file can't add to requests, in lower case, each with the reason. None: any."""
    default_model: str | None = None

    @abstractmethod
    def limits(self, provider: Provider) -> Limits:
        """Return the limits of requests to a provider."""

    @abstractmethod
    def place(self, provider: Provider, settings: Settings | None = None) -> str:
        """Describe where the provider runs, for messages; with `settings`, as this environment decides."""

    @abstractmethod
    def setting_of_place(self, provider: Provider, settings: Settings) -> str:
        """Return the name of the setting that decides `place`: what to correct if the place is wrong."""

    @abstractmethod
    def connect(self, provider: Provider, settings: Settings, environ: Mapping[str, str]) -> Connection:
        """Open a connection. Never fails: `prepare` or the first `call` reports a wrong host, key or model."""

    def default_dimensions(self, model: str | None) -> int | None:
        """Return the dimensions of a pipeline that doesn't say. None: they are required."""
        del model
        return None

    def check_provider(self, provider: Provider, settings: Settings) -> None:
        """Raise Misconfigured if the provider can't work, as far as this environment can tell without a call.

        The error's `option` is the option of the provider's section, or None if the environment decides.
        """
        del provider, settings

    def adapts(self, spec: Spec) -> bool:
        """Whether the dialect itself gives a model what it expects of documents and queries."""
        del spec
        return False

    def check_specs(self, specs: Iterable[Spec]) -> Iterator[Misconfigured | None]:
        """For each spec, yield what is wrong with it, as far as can be told without a call, or None."""
        return (None for _ in specs)
