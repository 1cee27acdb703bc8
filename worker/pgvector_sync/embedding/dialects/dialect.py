"""What a dialect is. Packing, parallel requests, budget, retries and deadlines are in `provider_embedder`.

A dialect is a stateless description, cheap to import: the command line asks it without loading a model or an SDK.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from pgvector_sync.errors import Misconfigured
from pgvector_sync.model import Provider, Purpose, Spec
from pgvector_sync.settings import Settings

if TYPE_CHECKING:
    from pgvector_sync.embedding.answer import Answer


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold, and how many requests of one batch may be under way."""

    max_inputs: int
    max_request_tokens: int | None = None
    """None: tokens aren't limited, nor counted."""
    max_input_tokens: int | None = None
    """A longer text travels alone, so that its refusal is its own."""
    parallel_requests: int = 1


class Connection(Protocol):
    """One provider, ready to be called from any thread and, after a fork, from any process."""

    def prepare(self, spec: Spec) -> None:
        """Everything short of a call: checks host and key, or loads the model. Raises Misconfigured."""
        ...

    def call(self, texts: Sequence[str], spec: Spec, purpose: Purpose, *, timeout: timedelta) -> Answer:
        """The answer to one request that keeps the dialect's limits, checked.

        Raises ProviderError: TimedOut after `timeout`, RateLimited, Unavailable, BrokenContract, Misconfigured,
        InputRejected.
        """
        ...

    def close(self) -> None: ...


class Dialect(ABC):
    """How one kind of provider is spoken to, and what is true for all providers of that kind."""

    name: str
    """As `dialect` in the file and in the database gives it."""
    built_in: Provider | None = None
    """The provider of this dialect that needs no section in the file."""
    needs_address: bool
    """True: `base_url` is required. False: there is none."""
    endpoint: str | None = None
    """What is appended to `base_url` for a call, and so must not be in it."""
    takes_key: bool
    """False: there is no `api_key_env`."""
    remote: bool
    """A call sends texts out of this process and may hang; `doctor --offline` makes none."""
    billed: bool
    """Somebody may send a bill for a call."""
    default_model: str | None = None
    default_dimensions: int | None = None

    @abstractmethod
    def limits(self, provider: Provider) -> Limits: ...

    @abstractmethod
    def place(self, provider: Provider, settings: Settings | None = None) -> str:
        """Where it is called, for a person; with `settings`, as this environment decides it."""

    @abstractmethod
    def setting_of_place(self, provider: Provider, settings: Settings) -> str:
        """The name of what decides `place`: what to correct if that is wrong."""

    @abstractmethod
    def connect(self, provider: Provider, settings: Settings, environ: Mapping[str, str]) -> Connection:
        """Never fails: what is wrong with host, key or model shows in `prepare` or the first `call`."""

    def check_provider(self, provider: Provider, settings: Settings) -> None:
        """Raises Misconfigured for what this environment can tell without a call; its `option` is of the file's
        section, None where the environment decides and not the file.
        """
        del provider, settings

    def check_specs(self, specs: Iterable[Spec]) -> Iterator[Misconfigured | None]:
        """For each spec what is wrong with it, as far as this can be told without a call."""
        return (None for _ in specs)
