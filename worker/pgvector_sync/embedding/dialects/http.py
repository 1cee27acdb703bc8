"""The base of all dialects over HTTP: an address, a key, and refusals with a status."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgvector_sync.embedding.dialects.dialect import Connection, Dialect
from pgvector_sync.embedding.error_body import reports_failure
from pgvector_sync.embedding.network import headers, parameters
from pgvector_sync.embedding.network.authorities import trust_of
from pgvector_sync.embedding.network.hosts import (
    OPENAI_BASE_URL,
    Destination,
    address_of,
    check_provider,
    setting_of_address,
)
from pgvector_sync.embedding.network.proxies import check_proxy
from pgvector_sync.embedding.refusal import Refusal, by_body
from pgvector_sync.errors import Misconfigured, ProviderError
from pgvector_sync.model import Provider, Purpose, Spec
from pgvector_sync.settings import Settings

if TYPE_CHECKING:
    from pgvector_sync.embedding.answer import Answer


@dataclass(frozen=True, slots=True)
class Request:
    """A POST request to a path below the provider's address."""

    path: str
    body: Mapping[str, object]


class HttpDialect(Dialect):
    """A dialect whose subclass builds the request, reads the answer and classifies a refusal."""

    needs_address = True
    takes_key = True
    remote = True
    billed = True
    endpoint: str
    sdk_headers = False
    """Whether OpenAI and the host of OPENAI_BASE_URL get the headers that the openai SDK reads from the
    environment."""
    repeats_texts = False
    """Whether an answer repeats the texts, and may be longer by that."""

    key_headers = frozenset({"authorization"})

    def credentials(self, key: str) -> Mapping[str, str]:
        """Return the values of `key_headers`."""
        return {"authorization": f"Bearer {key}"}

    @abstractmethod
    def request(self, texts: Sequence[str], spec: Spec, purpose: Purpose, provider: Provider) -> Request:
        """Build the request for some texts."""

    @abstractmethod
    def read(self, body: bytes, *, texts: Sequence[str], dimensions: int) -> Answer:
        """Read and check the answer to these texts. Raises BrokenContract."""

    def classify(self, refusal: Refusal) -> ProviderError:
        """Map a refusal to an error: by its short codes and its status, unless the dialect overrides this."""
        return by_body(refusal)

    def reports_failure(self, body: object) -> bool:
        """Whether the parsed body of an answer with a status of success is a refusal, which `classify` maps.

        It is asked about answers without valid vectors.
        """
        return reports_failure(body)

    def place(self, provider: Provider, settings: Settings | None = None) -> str:
        if settings is None:
            return provider.base_url or ""
        address, setting = address_of(provider, settings), setting_of_address(provider, settings)
        place = f"{address} ({setting})" if setting == OPENAI_BASE_URL else address
        return place if provider.proxy is None else f"{place} through {provider.proxy}"

    def setting_of_place(self, provider: Provider, settings: Settings) -> str:
        return setting_of_address(provider, settings)

    def check_provider(self, provider: Provider, settings: Settings) -> None:
        try:
            self.checked_address(provider, settings)
        except Misconfigured as failure:
            if failure.option == "base_url" and setting_of_address(provider, settings) == OPENAI_BASE_URL:
                failure.option = None
            raise

    def checked_address(self, provider: Provider, settings: Settings) -> str:
        """Return the provider's URL.

        Raises Misconfigured if an option of the provider can't work in this environment.
        """
        self._check_additions(provider)
        address = check_provider(provider, settings, endpoint=self.endpoint)
        check_proxy(provider, Destination.named(address), settings)
        trust_of(provider, settings)
        return address

    def _check_additions(self, provider: Provider) -> None:
        """Raise Misconfigured for headers or parameters that can't be sent, of a row that `apply` didn't write."""
        _refuse(headers.problems(provider.headers), "headers", provider.name)
        self.check_parameters(provider.extra_body, "extra_body", provider.name)

    def check_parameters(self, body: object, option: str, owner: str) -> None:
        """Raise Misconfigured for parameters that can't be added to requests."""
        _refuse(parameters.problems(body, self), option, owner)

    def connect(self, provider: Provider, settings: Settings, environ: Mapping[str, str]) -> Connection:
        from pgvector_sync.embedding.network.http_connection import HttpConnection

        return HttpConnection(self, provider, settings, environ)


def _refuse(problems: Iterator[tuple[str, str]], option: str, owner: str) -> None:
    """Raise Misconfigured for the first problem."""
    for path, message in problems:
        place = f"{option}.{path}" if path else option
        raise Misconfigured(
            f"{place} of {owner}: {message}",
            code=f"bad_{option}",
            option=option,
            hint="correct it in pgvector-sync.toml, then: pgvector-sync apply",
        )
