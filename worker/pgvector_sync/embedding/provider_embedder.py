"""Turns texts into requests for every dialect: packing, parallel requests, budget, retries and the deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count

import numpy as np
import tenacity

from pgvector_sync.embedding.answer import Answer
from pgvector_sync.embedding.budget import open_budget
from pgvector_sync.embedding.calls import OK, Calls
from pgvector_sync.embedding.dialects.dialect import Connection, Dialect, Limits
from pgvector_sync.embedding.embedder import Embeddings, Sent
from pgvector_sync.embedding.learning import Size, limits_of, limits_of_trial, tests_a_quota
from pgvector_sync.embedding.packing import are_within, pack
from pgvector_sync.embedding.reported_call import reported_call
from pgvector_sync.embedding.tokens import NOTHING_ASSUMED, Assumed, byte_bound, count_batch
from pgvector_sync.errors import InputRejected, OutOfTime, ProviderError, RateLimited, TimedOut
from pgvector_sync.model import Lane, Provider, Purpose, Spec
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.model.learned import NOTHING_LEARNED, Learned
from pgvector_sync.settings import Settings

TRIES = 3
EXTRA_TOKENS_PER_TEXT = 100
"""Tokens that a provider may add to each text, such as start and end markers or an instruction."""
SHORTEST_CALL = timedelta(milliseconds=50)
"""With less time left than this, a call would be paid for and discarded."""


@dataclass(frozen=True, slots=True)
class _Reply:
    """The answer to one request."""

    positions: list[int]
    octets: int
    answer: Answer
    tries: int
    took: timedelta
    """The time of the last try."""


@dataclass(frozen=True, slots=True)
class _Call:
    """What all requests of one `embed` share."""

    spec: Spec
    purpose: Purpose
    lane: Lane
    deadline: Deadline
    learned: Learned
    calls: Calls

    def time_left(self) -> timedelta:
        """Return the time until the deadline. Raises OutOfTime if it is too short for a call."""
        left = self.deadline.left
        if left < SHORTEST_CALL:
            raise OutOfTime("there was no time left to call the provider")
        return left


class ProviderEmbedder:
    """An `Embedder` for a provider of any dialect."""

    def __init__(self, dialect: Dialect, connection: Connection, provider: Provider, settings: Settings) -> None:
        self._connection = connection
        self._provider = provider
        self._limits = dialect.limits(provider)
        self._remote = dialect.remote
        self._budget = open_budget(provider, settings)
        self._longest_call = settings.longest_call

    def prepare(self, spec: Spec) -> None:
        self._connection.prepare(spec)

    def embed(
        self,
        texts: Sequence[str],
        spec: Spec,
        *,
        deadline: Deadline,
        purpose: Purpose = Purpose.DOCUMENT,
        lane: Lane = Lane.LIVE,
        learned: Learned = NOTHING_LEARNED,
        calls: Calls | None = None,
    ) -> Embeddings:
        call = _Call(spec, purpose, lane, deadline, learned, Calls() if calls is None else calls)
        if spec.prefix:
            texts = [spec.prefix + text for text in texts]
        octets = [byte_bound(text) for text in texts]
        within_budget = self._budget.within(self._limits)
        counts = self._count(texts, octets, spec.model, within_budget)
        limits = limits_of(learned, within_budget, self._longest_call)
        trial = limits_of_trial(learned, within_budget, self._longest_call)
        requests = pack([tokens.packed for tokens in counts], octets, limits, first=trial)

        def send(positions: list[int]) -> _Reply:
            # No accepted text is longer. Otherwise a text of a megabyte, which is rejected, would reserve its full
            # size.
            longest = limits.max_input_tokens
            tokens = [counts[i].reserved for i in positions]
            reserved = sum(tokens if longest is None else [min(count, longest) for count in tokens])
            size = Size(len(positions), sum(octets[i] for i in positions))
            try:
                answer, tries, took = self._send([texts[i] for i in positions], size, reserved, call)
            except ProviderError as error:
                error.positions, error.octets = tuple(positions), size.octets
                raise
            return _Reply(positions, size.octets, answer, tries, took)

        parallel = min(limits.parallel_requests, len(requests))
        answered, failure = _in_parallel(requests, send, parallel) if parallel > 1 else _in_turn(requests, send)
        return self._gather(len(texts), spec, answered, failure)

    def close(self) -> None:
        self._connection.close()
        self._budget.close()

    def _count(self, texts: Sequence[str], octets: Sequence[int], model: str, limits: Limits) -> list[Assumed]:
        """Return how many tokens each text is assumed to have, or zeros where nothing depends on them.

        They matter where the budget counts tokens, or where limits may divide the texts. No text has more tokens
        than bytes.
        """
        unlimited = limits.max_request_tokens is None or are_within(octets, limits)
        if unlimited and not self._budget.counts_tokens:
            return [NOTHING_ASSUMED] * len(texts)
        return count_batch(texts, octets, model, longest=limits.max_input_tokens)

    def _send(self, texts: list[str], size: Size, reserved: int, call: _Call) -> tuple[Answer, int, timedelta]:
        """Send one request, with retries; return its answer, the number of tries, and the time of the last one."""
        self._connection.prepare(call.spec)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_worth_a_retry),
            # `stop_before_delay` includes the coming pause, so that no retry starts that can't be finished.
            stop=tenacity.stop_after_attempt(TRIES) | tenacity.stop_before_delay(call.deadline.left),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=8),
            reraise=True,
        )
        attempts = count(1)
        answer, took = retrying(lambda: self._try(texts, size, reserved, call, next(attempts)))
        if answer.tokens is None:
            answer = replace(answer, tokens=size.octets // 4)
        return answer, int(retrying.statistics["attempt_number"]), took

    def _try(
        self, texts: list[str], size: Size, reserved: int, call: _Call, attempt: int
    ) -> tuple[Answer, timedelta]:
        model = call.spec.model
        call.time_left()
        requests = len(texts) if self._limits.counts_inputs else 1
        self._budget.take(model, reserved, lane=call.lane, deadline=call.deadline, requests=requests)
        started = time.monotonic()
        outcome = OK
        try:
            answer = self._call(texts, size, call, attempt)
        except ProviderError as failure:
            outcome = failure.name
            self._settle_failure(failure, reserved, size, call)
            raise
        finally:
            took = timedelta(seconds=time.monotonic() - started)
            if self._remote:
                call.calls.note(outcome, took)
        if answer.tokens is not None:
            self._budget.settle(model, answer.tokens - reserved)
        return answer, took

    def _settle_failure(self, failure: ProviderError, reserved: int, size: Size, call: _Call) -> None:
        """Tell the budget what a failed call means for it."""
        model = call.spec.model
        if isinstance(failure, RateLimited):
            if not tests_a_quota(call.learned, size):
                self._budget.block(model, failure.retry_after)
        elif isinstance(failure, InputRejected):
            self._budget.settle(model, -reserved)

    def _call(self, texts: list[str], size: Size, call: _Call, attempt: int) -> Answer:
        timeout = min(self._longest_call, call.time_left())
        try:
            answer = reported_call(
                self._connection,
                self._provider,
                texts,
                call.spec,
                call.purpose,
                timeout=timeout,
                attempt=attempt,
            )
        except TimedOut:
            # a call with less time than usual says nothing about the provider
            if timeout == self._longest_call:
                raise
        else:
            return _with_plausible_tokens(answer, size)
        raise OutOfTime(
            f"the provider did not answer within {round(timeout.total_seconds(), 1):g} s",
            hint="try again; if it persists, the provider is slow or down: see its status page, or raise "
            "PGVECTOR_SYNC_PROVIDER_TIMEOUT",
        )

    def _gather(
        self, count: int, spec: Spec, answered: Sequence[_Reply], failure: ProviderError | None
    ) -> Embeddings:
        vectors = np.full((count, spec.dimensions), np.nan, dtype=np.float32)
        left = set(range(count))
        for reply in answered:
            vectors[reply.positions] = reply.answer.vectors
            left.difference_update(reply.positions)
        return Embeddings(
            vectors,
            tokens=sum(reply.answer.tokens or 0 for reply in answered),
            requests=sum(reply.tries for reply in answered) if self._remote else 0,
            truncated=sum(reply.answer.truncated for reply in answered),
            left=tuple(sorted(left)),
            failure=failure,
            sent=tuple(Sent(reply.positions, reply.octets, reply.took) for reply in answered)
            if self._remote
            else (),
        )


def _in_turn(
    requests: Sequence[list[int]], send: Callable[[list[int]], _Reply]
) -> tuple[list[_Reply], ProviderError | None]:
    """Send requests one by one. Returns replies and the first failure, or raises it if there are no replies."""
    answered: list[_Reply] = []
    for positions in requests:
        try:
            answered.append(send(positions))
        except ProviderError as error:
            if not answered:
                raise
            return answered, error
    return answered, None


def _in_parallel(
    requests: Sequence[list[int]], send: Callable[[list[int]], _Reply], parallel: int
) -> tuple[list[_Reply], ProviderError | None]:
    """Like `_in_turn`, with `parallel` requests at once."""
    with ThreadPoolExecutor(parallel, thread_name_prefix="embed") as pool:
        # in a copy of this context each, so that their log lines are those of the batch
        sent = [pool.submit(copy_context().run, send, positions) for positions in requests]
        _, running = wait(sent, return_when=FIRST_EXCEPTION)
        for future in running:
            future.cancel()  # requests that have started are paid for, so their answers are kept
    failures = [error for future in sent if not future.cancelled() and (error := future.exception())]
    answered = [future.result() for future in sent if _succeeded(future)]
    unexpected = next((error for error in failures if not isinstance(error, ProviderError)), None)
    if failures and (unexpected or not answered):
        raise unexpected or failures[0]
    first = failures[0] if failures else None
    return answered, first if isinstance(first, ProviderError) else None


def _succeeded(future: Future[_Reply]) -> bool:
    return not future.cancelled() and future.exception() is None


def _with_plausible_tokens(answer: Answer, size: Size) -> Answer:
    """Remove a token count that a request can't have, since an endpoint must not be able to inflate usage."""
    limit = EXTRA_TOKENS_PER_TEXT * size.inputs + size.octets
    return answer if answer.tokens is None or answer.tokens <= limit else replace(answer, tokens=None)


def _is_worth_a_retry(error: BaseException) -> bool:
    """Whether a failure may be gone by the next try of the same call.

    If the provider names a time, the cool-down waits for it instead. A call that hung isn't repeated: it has
    already cost a third of the batch's time, and the bisection has to find the cause with another request.
    """
    return isinstance(error, ProviderError) and error.retried_within_call and error.retry_after is None
