"""A provider that is called over HTTP, through the openai SDK's client, whatever its dialect.

The SDK sends and reports. Retrying is `provider_embedder`'s, and reading the answer is the dialect's: the SDK
would build an object for every vector, and of base64 a list of Python floats.
"""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import httpx2
import openai

from pgvector_sync.embedding.answer import Answer
from pgvector_sync.embedding.bounds import bounded, most_bytes
from pgvector_sync.embedding.dialects.http import HttpDialect
from pgvector_sync.embedding.hosts import (
    OPENAI_BASE_URL,
    check_provider,
    is_loopback,
    setting_of_address,
    takes_sdk_headers,
)
from pgvector_sync.embedding.per_process import PerProcess
from pgvector_sync.embedding.refusal import Refusal, retry_after
from pgvector_sync.embedding.surroundings import open_client
from pgvector_sync.errors import Misconfigured, ProviderError, TimedOut, Unavailable, Unreachable
from pgvector_sync.model import Provider, Purpose, Spec
from pgvector_sync.settings import Settings

CONNECT_TIMEOUT = timedelta(seconds=5)
_E = TypeVar("_E", bound=BaseException)

# The client logs addresses at INFO, and the SDK has logged request bodies at DEBUG: not ours to show (G13).
for _name in ("openai", "httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class HttpConnection:
    """See `Connection`. The key is read, and the host checked, at the first use in each process."""

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
        del spec
        self._client.get()

    def call(self, texts: Sequence[str], spec: Spec, purpose: Purpose, *, timeout: timedelta) -> Answer:
        client = self._client.get()
        request = self._dialect.request(texts, spec, purpose, self._provider)
        most = most_bytes(count=len(texts), dimensions=spec.dimensions)
        each = httpx2.Timeout(timeout.total_seconds(), connect=min(timeout, CONNECT_TIMEOUT).total_seconds())
        try:
            with bounded(timeout=timeout, answer_bytes=most):
                response = client.post(
                    request.path, cast_to=httpx2.Response, body=request.body, options={"timeout": each}
                )
        except openai.APIStatusError as error:
            failure = self._dialect.classify(self._refusal(error, client.api_key))
        except openai.OpenAIError as error:
            failure = self._failure(error, timeout)
        else:
            return self._dialect.read(response.content, count=len(texts), dimensions=spec.dimensions)
        # Not in the handlers: the SDK's error, as the context of ours, would keep the request with all its texts.
        raise failure

    def close(self) -> None:
        client = self._client.pop()
        if client is not None:
            client.close()

    def _open(self) -> openai.OpenAI:
        address = check_provider(self._provider, self._settings, endpoint=self._dialect.endpoint)
        key = self._key()
        http_client = open_client(
            key=key,
            # A proxy can't reach our loopback, so its variables don't apply there.
            trust_env=not is_loopback(httpx2.URL(address).host),
            sdk_headers=takes_sdk_headers(address, self._settings),
        )
        # The SDK insists on a key; where there is none, the HTTP client sends none.
        return openai.OpenAI(api_key=key or "none", base_url=address, max_retries=0, http_client=http_client)

    def _key(self) -> str | None:
        name = self._provider.api_key_env
        if name is None:
            return None
        key = self._environ.get(name, "").strip()
        if not key:
            raise Misconfigured(
                f"{name} is not set", code="missing_key", hint=f"export {name}=... where the workers run"
            )
        if not (key.isascii() and key.isprintable()):
            raise Misconfigured(
                f"{name} holds characters that no key can have", code="bad_key", hint=f"set {name} again"
            )
        return key

    def _refusal(self, error: openai.APIStatusError, key: str) -> Refusal:
        try:
            body = json.loads(error.response.content)
        except (ValueError, RecursionError):
            body = None
        wait = retry_after(error.response.headers, now=datetime.now(UTC))
        return Refusal(error.status_code, body, wait, self._provider, self._setting, key)

    def _failure(self, error: openai.OpenAIError, timeout: timedelta) -> ProviderError:
        """Of a call that got no answer. What the SDK says is left out: it may quote anything."""
        if ours := _cause(error, ProviderError):
            return ours
        at = f" ({OPENAI_BASE_URL} decides its address)" if self._setting == OPENAI_BASE_URL else ""
        reach = f"check {self._setting}, and whether this machine reaches it (DNS, proxy, firewall)"
        if isinstance(error, openai.APITimeoutError):
            if timeout > CONNECT_TIMEOUT and _cause(error, httpx2.ConnectTimeout):
                return Unreachable(
                    f"the provider accepted no connection in time{at}", code="connection", hint=reach
                )
            return TimedOut()
        if _cause(error, ssl.SSLCertVerificationError):
            return Misconfigured(
                "the provider's TLS certificate is not trusted",
                code="certificate",
                hint=f"check {self._setting}; for a private authority, point SSL_CERT_FILE to its certificate",
            )
        return Unavailable(f"the connection to the provider failed{at}", code="connection", hint=reach)


def _cause(error: BaseException, kind: type[_E]) -> _E | None:
    """The first error of a kind that led to this one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, kind):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None
