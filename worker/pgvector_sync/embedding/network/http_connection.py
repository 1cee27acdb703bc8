"""Calls a provider over HTTP in any dialect, with the client of the openai SDK.

The SDK only sends requests and reports errors. `provider_embedder` retries, and the dialect reads the answer: the
SDK would build an object per vector, and turn base64 into a list of Python floats.
"""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

import httpx2
import openai

from pgvector_sync.embedding.answer import Answer
from pgvector_sync.embedding.dialects.http import HttpDialect
from pgvector_sync.embedding.network.authorities import trust_of
from pgvector_sync.embedding.network.bounds import ERROR_BYTES, bounded, longest_answer, longest_repetition
from pgvector_sync.embedding.network.headers import key_in, resolve, secrets_in
from pgvector_sync.embedding.network.hosts import (
    OPENAI_BASE_URL,
    Destination,
    is_loopback,
    setting_of_address,
    takes_sdk_headers,
)
from pgvector_sync.embedding.network.proxies import proxy_of, proxy_refusal
from pgvector_sync.embedding.network.surroundings import open_client
from pgvector_sync.embedding.per_process import PerProcess
from pgvector_sync.embedding.refusal import Refusal, retry_after
from pgvector_sync.embedding.request_id import request_id
from pgvector_sync.errors import BrokenContract, Misconfigured, ProviderError, TimedOut, Unavailable, Unreachable
from pgvector_sync.model import Provider, Purpose, Spec
from pgvector_sync.settings import Settings

CONNECT_TIMEOUT = timedelta(seconds=5)
_E = TypeVar("_E", bound=BaseException)

# The client logs addresses at INFO, and the SDK has logged request bodies at DEBUG, which must stay private (G13).
for _name in ("openai", "httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class _Client(NamedTuple):
    sdk: openai.OpenAI
    secrets: tuple[str, ...]
    """What is sent as a secret."""


class HttpConnection:
    """A `Connection` over HTTP. The key is read and the host is checked at the first use in each process."""

    def __init__(
        self, dialect: HttpDialect, provider: Provider, settings: Settings, environ: Mapping[str, str]
    ) -> None:
        self._dialect = dialect
        self._provider = provider
        self._settings = settings
        self._environ = environ
        self._setting = setting_of_address(provider, settings)
        self._client = PerProcess(self._open)

    def prepare(self, spec: Spec) -> None:
        self._client.get()
        self._dialect.check_parameters(spec.body, "body", "the pipeline")

    def call(self, texts: Sequence[str], spec: Spec, purpose: Purpose, *, timeout: timedelta) -> Answer:
        client, secrets = self._client.get()
        request = self._dialect.request(texts, spec, purpose, self._provider)
        limit = longest_answer(count=len(texts), dimensions=spec.dimensions)
        if self._dialect.repeats_texts:
            limit += longest_repetition(texts)
        per_operation = httpx2.Timeout(
            timeout.total_seconds(), connect=min(timeout, CONNECT_TIMEOUT).total_seconds()
        )
        try:
            with bounded(timeout=timeout, answer_bytes=limit):
                response = client.post(
                    request.path, cast_to=httpx2.Response, body=request.body, options={"timeout": per_operation}
                )
        except openai.APIStatusError as error:
            failure = self._dialect.classify(self._refusal(error.response, secrets))
            failure.request_id = request_id(error.response.headers, secrets)
        except openai.OpenAIError as error:
            failure = self._failure(error, timeout)
        else:
            return self._read(response, secrets, texts=texts, dimensions=spec.dimensions)
        # Raised outside the handlers: as the context of this error, the SDK's would keep the request with all
        # texts.
        raise failure

    def close(self) -> None:
        client = self._client.pop()
        if client is not None:
            client.sdk.close()

    def _open(self) -> _Client:
        provider, settings = self._provider, self._settings
        address = self._dialect.checked_address(provider, settings)
        key = None if provider.api_key_env is None else key_in(self._environ, provider.api_key_env)
        declared = resolve(provider.headers, self._environ)
        to = Destination.named(address)
        proxy = proxy_of(provider, to, settings, self._environ)
        http_client = open_client(
            credentials=self._dialect.credentials(key) if key else {},
            headers=declared,
            # A proxy can't reach this machine's loopback, so proxy variables don't apply to it.
            trust_env=not is_loopback(to.host),
            sdk_headers=self._dialect.sdk_headers and takes_sdk_headers(address, settings),
            trust=trust_of(provider, settings),
            proxy=proxy,
        )
        # The SDK requires a key, and sends it in OpenAI's header. The HTTP client replaces that by the dialect's
        # headers, or by none if there is no key.
        sdk = openai.OpenAI(api_key=key or "none", base_url=address, max_retries=0, http_client=http_client)
        secrets = [key, *secrets_in(provider.headers, self._environ), *(proxy.login or () if proxy else ())]
        return _Client(sdk, tuple(filter(None, secrets)))

    def _read(
        self, response: httpx2.Response, secrets: tuple[str, ...], *, texts: Sequence[str], dimensions: int
    ) -> Answer:
        id_ = request_id(response.headers, secrets)
        try:
            answer = self._dialect.read(response.content, texts=texts, dimensions=dimensions)
        except BrokenContract as error:
            refusal = self._refusal(response, secrets)
            failure = self._dialect.classify(refusal) if self._dialect.reports_failure(refusal.body) else error
        else:
            return replace(answer, request_id=id_)
        failure.request_id = id_
        raise failure

    def _refusal(self, response: httpx2.Response, secrets: tuple[str, ...]) -> Refusal:
        content = response.content
        try:
            body = json.loads(content) if len(content) <= ERROR_BYTES else None
        except (ValueError, RecursionError):
            body = None
        wait = retry_after(response.headers, now=datetime.now(UTC), body=body)
        return Refusal(response.status_code, body, wait, self._provider, self._setting, secrets)

    def _failure(self, error: openai.OpenAIError, timeout: timedelta) -> ProviderError:
        """Map the failure of a call that got no answer. The SDK's message is dropped: it may quote anything."""
        if failure := _cause(error, ProviderError):
            return failure
        origin = f" (its address is set by {OPENAI_BASE_URL})" if self._setting == OPENAI_BASE_URL else ""
        via = f", the proxy of {self._provider.name}" if self._provider.proxy else ""
        reach = f"check {self._setting}{via}, and whether this machine can reach it (DNS, proxy, firewall)"
        if isinstance(error, openai.APITimeoutError):
            if timeout > CONNECT_TIMEOUT and _cause(error, httpx2.ConnectTimeout):
                return Unreachable(
                    f"the provider accepted no connection in time{origin}", code="connection", hint=reach
                )
            return TimedOut()
        if refused := _cause(error, httpx2.ProxyError):
            return proxy_refusal(str(refused))
        if _cause(error, ssl.SSLCertVerificationError):
            return self._untrusted()
        return Unavailable(f"the connection to the provider failed{origin}", code="connection", hint=reach)

    def _untrusted(self) -> Misconfigured:
        if self._provider.ca_file is not None:
            return Misconfigured(
                f"the provider's TLS certificate is not from an authority in ca_file of {self._provider.name}",
                code="certificate",
                option="ca_file",
                hint=f"check {self._setting}, and that the file holds the certificate of its authority; if the "
                "file has changed, restart the workers",
            )
        return Misconfigured(
            "the provider's TLS certificate is not trusted",
            code="certificate",
            hint=f"check {self._setting}; for a private CA, set ca_file of {self._provider.name} to the path of "
            "its certificate",
        )


def _cause(error: BaseException, kind: type[_E]) -> _E | None:
    """Return the first error of this class in the chain of causes, else None."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, kind):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None
