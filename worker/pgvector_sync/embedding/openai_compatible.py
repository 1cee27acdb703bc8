"""Providers that speak OpenAI's embeddings API, called through the openai SDK.

The SDK sends and reports; retrying is tenacity's, and reading the answer is ours: the SDK would build an
object for every vector, and of base64 a list of Python floats.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import httpx2
import numpy as np
import openai
import tenacity

from pgvector_sync.embedding.answer import Answer, read_answer
from pgvector_sync.embedding.bounds import bounded, most_bytes
from pgvector_sync.embedding.budget import open_budget
from pgvector_sync.embedding.embedder import Embeddings
from pgvector_sync.embedding.failure import sort_failure
from pgvector_sync.embedding.hosts import check_provider, is_loopback, setting_of_address, takes_sdk_headers
from pgvector_sync.embedding.packing import MAX_INPUT_TOKENS, MAX_TOKENS, fit_one_request, pack
from pgvector_sync.embedding.per_process import PerProcess
from pgvector_sync.embedding.surroundings import open_client
from pgvector_sync.embedding.tokens import Tokens, byte_bound, count_tokens
from pgvector_sync.errors import InputRejected, Misconfigured, OutOfTime, ProviderError, RateLimited
from pgvector_sync.model import Lane
from pgvector_sync.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgvector_sync.model import Provider, Spec

TRIES = 3
PARALLEL_REQUESTS = 4
"""Of one batch. Long texts go one a request, and a batch of them must end before its deadline."""
CONNECT_TIMEOUT = 5.0
TOKENS_A_TEXT = 100
"""That a provider may add to each text: marks of begin and end, an instruction."""
SHORTEST_CALL = 0.05
"""Seconds; with less than this left, a call would only be paid for and thrown away."""

# The client logs addresses at INFO, and the SDK has logged request bodies at DEBUG: not ours to show (G13).
for _name in ("openai", "httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class _Call:
    """What all requests of one `embed` have in common."""

    spec: Spec
    deadline: float
    lane: Lane


class OpenAICompatibleEmbedder:
    """See `Embedder`. The key is read, and the host checked, at the first call in each process."""

    def __init__(self, provider: Provider, settings: Settings, environ: Mapping[str, str]) -> None:
        self._provider = provider
        self._settings = settings
        self._environ = environ
        self._setting = setting_of_address(provider, settings)
        self._client = PerProcess(self._connect)
        self._budget = open_budget(provider, settings)

    def embed(self, texts: Sequence[str], spec: Spec, *, deadline: float, lane: Lane = Lane.LIVE) -> Embeddings:
        call = _Call(spec, deadline, lane)
        counts = self._count(texts, spec.model)
        largest = self._budget.largest_request(MAX_TOKENS, least=MAX_INPUT_TOKENS)
        requests = pack([count.at_most for count in counts], max_tokens=largest)

        def send(some: list[int]) -> tuple[Answer, int]:
            # No accepted text is longer; what goes alone would otherwise reserve a refused text's megabyte.
            reserved = sum(min(counts[i].about, MAX_INPUT_TOKENS) for i in some)
            return self._send([texts[i] for i in some], reserved, call)

        if len(requests) <= 1:
            return _gathered(texts, spec, [(some, send(some)) for some in requests], None)
        with ThreadPoolExecutor(PARALLEL_REQUESTS, thread_name_prefix="embed") as pool:
            sent = [(some, pool.submit(send, some)) for some in requests]
            _, running = wait([future for _, future in sent], return_when=FIRST_EXCEPTION)
            for future in running:
                future.cancel()  # what hasn't started by now is not sent; what has, is paid for and kept
        failures = [error for _, future in sent if not future.cancelled() and (error := future.exception())]
        answered = [(some, future.result()) for some, future in sent if _succeeded(future)]
        grave = next((error for error in failures if not isinstance(error, ProviderError)), None)
        if failures and (grave or not answered):
            raise grave or failures[0]
        first = failures[0] if failures else None
        return _gathered(texts, spec, answered, first if isinstance(first, ProviderError) else None)

    def close(self) -> None:
        client = self._client.pop()
        if client is not None:
            client.close()
        self._budget.close()

    def _count(self, texts: Sequence[str], model: str) -> list[Tokens]:
        """Exact counts cost about a microsecond a token, so bytes do where nothing hangs on it."""
        bounds = [byte_bound(text) for text in texts]
        if not self._budget.counts_tokens and fit_one_request(bounds):
            return [Tokens(bound, 0) for bound in bounds]
        return [count_tokens(text, model) for text in texts]

    def _send(self, texts: list[str], reserved: int, call: _Call) -> tuple[Answer, int]:
        """One request's answer, and how many tries it took."""
        client = self._client.get()
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_worth_a_retry),
            # `stop_before_delay` counts the coming pause in: no retry is begun that can't be finished.
            stop=tenacity.stop_after_attempt(TRIES) | tenacity.stop_before_delay(call.deadline - time.monotonic()),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=8),
            reraise=True,
        )
        answer = retrying(self._try, client, texts, reserved, call)
        if answer.tokens is None:
            answer = Answer(answer.vectors, tokens=sum(map(byte_bound, texts)) // 4)
        return answer, int(retrying.statistics["attempt_number"])

    def _try(self, client: openai.OpenAI, texts: list[str], reserved: int, call: _Call) -> Answer:
        model = call.spec.model
        self._time_left(call)
        self._budget.take(model, reserved, lane=call.lane, deadline=call.deadline)
        try:
            answer = self._request(client, texts, call)
        except RateLimited as failure:
            self._budget.block(model, failure.retry_after)
            raise
        except InputRejected:
            self._budget.settle(model, -reserved)
            raise
        if answer.tokens is not None:
            self._budget.settle(model, answer.tokens - reserved)
        return answer

    def _time_left(self, call: _Call) -> float:
        left = call.deadline - time.monotonic()
        if left < SHORTEST_CALL:
            raise OutOfTime("the batch's deadline has passed")
        return left

    def _request(self, client: openai.OpenAI, texts: list[str], call: _Call) -> Answer:
        limit = self._settings.longest_call.total_seconds()
        seconds = min(limit, self._time_left(call))
        spec = call.spec
        encoding: Literal["base64", "float"] = "float" if self._provider.encoding == "float" else "base64"
        most = most_bytes(count=len(texts), dimensions=spec.dimensions)
        try:
            with bounded(seconds=seconds, answer_bytes=most):
                response = client.embeddings.with_raw_response.create(
                    input=texts,
                    model=spec.model,
                    dimensions=spec.dimensions if self._provider.send_dimensions else openai.omit,
                    encoding_format=encoding,
                    timeout=httpx2.Timeout(seconds, connect=min(seconds, CONNECT_TIMEOUT)),
                )
        except openai.APITimeoutError as error:
            if seconds < limit:
                failure: ProviderError = OutOfTime("the batch's deadline passed during the call")
            else:
                failure = sort_failure(error, self._provider, self._setting)
        except openai.OpenAIError as error:
            failure = sort_failure(error, self._provider, self._setting, key=client.api_key)
        else:
            answer = read_answer(response.http_response.content, count=len(texts), dimensions=spec.dimensions)
            return _believable(answer, texts)
        # Not in the handlers: the SDK's error, as the context of ours, would keep the request with all its texts.
        raise failure

    def _connect(self) -> openai.OpenAI:
        address = check_provider(self._provider, self._settings)
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


def _succeeded(future: Future[tuple[Answer, int]]) -> bool:
    return not future.cancelled() and future.exception() is None


def _believable(answer: Answer, texts: Sequence[str]) -> Answer:
    """Without a count of tokens that these texts can't have: what we book would be the endpoint's to decide."""
    most = TOKENS_A_TEXT * len(texts) + sum(map(byte_bound, texts))
    return answer if answer.tokens is None or answer.tokens <= most else Answer(answer.vectors, tokens=None)


def _gathered(
    texts: Sequence[str],
    spec: Spec,
    answered: Sequence[tuple[list[int], tuple[Answer, int]]],
    failure: ProviderError | None,
) -> Embeddings:
    vectors = np.full((len(texts), spec.dimensions), np.nan, dtype=np.float32)
    left = set(range(len(texts)))
    for positions, (answer, _) in answered:
        vectors[positions] = answer.vectors
        left.difference_update(positions)
    return Embeddings(
        vectors,
        tokens=sum(answer.tokens or 0 for _, (answer, _) in answered),
        requests=sum(tries for _, (_, tries) in answered),
        left=tuple(sorted(left)),
        failure=failure,
    )


def _is_worth_a_retry(error: BaseException) -> bool:
    """Trouble that may pass within the call.

    Where the provider names a time, the cool-down waits for it. A call that hung has cost a third of the batch's
    time already, and who is to blame had better be asked with another one.
    """
    return isinstance(error, ProviderError) and error.retried_within_call and error.retry_after is None
