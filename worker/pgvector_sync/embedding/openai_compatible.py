"""Providers that speak OpenAI's embeddings API, called through the openai SDK.

The SDK sends and reports; retrying is tenacity's, and reading the answer is ours: the SDK would build an
object for every vector, and of base64 a list of Python floats.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

import httpx2
import numpy as np
import openai
import tenacity

from pgvector_sync.embedding.answer import Answer, read_answer
from pgvector_sync.embedding.embedder import Embeddings
from pgvector_sync.embedding.failure import sort_failure
from pgvector_sync.embedding.hosts import address_of, allowed_hosts, check_address
from pgvector_sync.embedding.packing import pack, token_bound
from pgvector_sync.embedding.per_process import PerProcess
from pgvector_sync.embedding.whole_answer import WholeAnswerClient
from pgvector_sync.errors import Misconfigured, Unavailable
from pgvector_sync.settings import LOCAL_HOSTS, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgvector_sync.model import Provider, Spec

TRIES = 3
PARALLEL_REQUESTS = 4
"""Of one batch. Long texts go one a request, and a batch of them must end before its deadline."""
CONNECT_TIMEOUT = 5.0
SHORTEST_CALL = 0.05
"""Seconds; with less than this left, a call would only be paid for and thrown away."""

# The client logs addresses at INFO, and the SDK has logged request bodies at DEBUG: not ours to show (G13).
for _name in ("openai", "httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class OpenAICompatibleEmbedder:
    """See `Embedder`. The key is read, and the host checked, at the first call in each process."""

    def __init__(self, provider: Provider, settings: Settings, environ: Mapping[str, str]) -> None:
        self._provider = provider
        self._settings = settings
        self._environ = environ
        self._client = PerProcess(self._connect)

    def embed(self, texts: Sequence[str], spec: Spec, *, deadline: float) -> Embeddings:
        requests = pack(texts)
        if len(requests) > 1:
            # One failure ends the batch: what hasn't started by then is not sent.
            with ThreadPoolExecutor(PARALLEL_REQUESTS, thread_name_prefix="embed") as pool:
                sent = list(pool.map(lambda some: self._send([texts[i] for i in some], spec, deadline), requests))
        else:
            sent = [self._send([texts[i] for i in some], spec, deadline) for some in requests]
        vectors = np.empty((len(texts), spec.dimensions), dtype=np.float32)
        for positions, (answer, _) in zip(requests, sent, strict=True):
            vectors[positions] = answer.vectors
        return Embeddings(
            vectors,
            tokens=sum(answer.tokens or 0 for answer, _ in sent),
            requests=sum(tries for _, tries in sent),
        )

    def close(self) -> None:
        client = self._client.pop()
        if client is not None:
            client.close()

    def _send(self, texts: list[str], spec: Spec, deadline: float) -> tuple[Answer, int]:
        """One request's answer, and how many tries it took."""
        client = self._client.get()
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_worth_a_retry),
            # `stop_before_delay` counts the coming pause in: no retry is begun that can't be finished.
            stop=tenacity.stop_after_attempt(TRIES) | tenacity.stop_before_delay(deadline - time.monotonic()),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=8),
            reraise=True,
        )
        answer = retrying(self._try, client, texts, spec, deadline)
        if answer.tokens is None:
            answer = Answer(answer.vectors, tokens=sum(map(token_bound, texts)) // 4)
        return answer, int(retrying.statistics["attempt_number"])

    def _try(self, client: openai.OpenAI, texts: list[str], spec: Spec, deadline: float) -> Answer:
        left = deadline - time.monotonic()
        if left < SHORTEST_CALL:
            raise Unavailable("the batch's deadline has passed", code="deadline")
        limit = self._settings.provider_timeout.total_seconds()
        seconds = min(limit, left)
        encoding: Literal["base64", "float"] = "float" if self._provider.encoding == "float" else "base64"
        try:
            response = client.embeddings.with_raw_response.create(
                input=texts,
                model=spec.model,
                dimensions=spec.dimensions if self._provider.send_dimensions else openai.omit,
                encoding_format=encoding,
                timeout=httpx2.Timeout(seconds, connect=min(seconds, CONNECT_TIMEOUT)),
            )
        except openai.APITimeoutError as error:
            if seconds < limit:
                raise Unavailable("the batch's deadline passed during the call", code="deadline") from None
            raise sort_failure(error, self._provider) from None
        except openai.OpenAIError as error:
            raise sort_failure(error, self._provider) from None
        return read_answer(response.http_response.content, count=len(texts), dimensions=spec.dimensions)

    def _connect(self) -> openai.OpenAI:
        address = address_of(self._provider, self._settings)
        check_address(address, allowed_hosts(self._settings))
        # A proxy can't reach our loopback, so its variables don't apply there.
        loopback = httpx2.URL(address).host in LOCAL_HOSTS
        return openai.OpenAI(
            api_key=self._key(),
            base_url=address,
            max_retries=0,
            http_client=WholeAnswerClient(trust_env=not loopback),
        )

    def _key(self) -> str:
        name = self._provider.api_key_env
        if name is None:
            return "none"  # the SDK insists on a key; an endpoint without authentication ignores it
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


def _is_worth_a_retry(error: BaseException) -> bool:
    """Trouble that may pass within the call. Where the provider names a time, the cool-down waits for it."""
    return isinstance(error, Unavailable) and error.retry_after is None
