"""Makes the calls of a test, through the provider's own dialect, connection and budget."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from pgvector_sync.embedding.budget import open_budget
from pgvector_sync.embedding.dialects import dialect_of
from pgvector_sync.embedding.dialects.http import HttpDialect
from pgvector_sync.embedding.tokens import count_tokens
from pgvector_sync.errors import OutOfTime, ProviderError
from pgvector_sync.model import Lane, Provider, Spec
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.observe.provider_test.reply import Outcome, Reply
from pgvector_sync.observe.provider_test.seen import Seen
from pgvector_sync.observe.provider_test.texts import FIRST
from pgvector_sync.observe.provider_test.trials import Call, Trial
from pgvector_sync.settings import Settings

if TYPE_CHECKING:
    from types import TracebackType

    from pgvector_sync.embedding.answer import Answer
    from pgvector_sync.embedding.dialects.dialect import Connection

FORM: dict[str, tuple[str, ...]] = {
    "encoding": ("base64", "float", "none"),
    "dimensions_parameter": ("dimensions", "output_dimension", "none"),
}
"""The options of a provider that decide the form of its requests, and their values."""
SHORTEST_CALL = timedelta(seconds=1)
"""With less time left, the test ends instead of making a call whose answer would be lost."""


class Caller:
    """The connections of one test: one for each variant of the provider's settings."""

    def __init__(self, seen: Seen, settings: Settings, environ: Mapping[str, str], deadline: Deadline) -> None:
        self._seen = seen
        self._dialect = dialect_of(seen.subject.provider)
        self._settings = settings
        self._environ = environ
        self._deadline = deadline
        self._budget = open_budget(seen.subject.provider, settings)
        self._connections: dict[Provider, Connection] = {}
        self._made: list[tuple[object, Reply]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._connections.values():
            connection.close()
        self._budget.close()

    def make(self, trial: Trial, call: Call) -> Reply:
        """Make a call, or return the reply to an equal one. Every failure of the provider is a reply."""
        texts = [(call.spec.prefix or "") + text for text in trial.texts]
        request = request_of(texts, call), call.spec.dimensions, trial.copies
        if not trial.again and (known := next((reply for made, reply in self._made if made == request), None)):
            return known
        reply = self._call(texts, call, copies=trial.copies)
        self._made.append((request, reply))
        return reply

    def _call(self, texts: Sequence[str], call: Call, *, copies: int) -> Reply:
        model = call.spec.model
        tokens = copies * sum(count_tokens(text, model).about for text in texts)
        try:
            timeout = min(self._settings.longest_call, self._time_left())
            requests = len(texts) if self._seen.subject.limits.counts_inputs else 1
            for _ in range(copies):
                self._budget.take(
                    model, tokens // copies, lane=Lane.LIVE, deadline=self._deadline, requests=requests
                )
            connection = self._connection(call.provider)
            connection.prepare(call.spec)
        except ProviderError as failure:
            return Reply(timedelta(0), failure=failure)
        self._seen.calls += copies
        self._seen.texts += copies * len(texts)
        started = time.monotonic()
        answers = _at_once(lambda: connection.call(texts, call.spec, call.purpose, timeout=timeout), copies)
        reply = _reply(timedelta(seconds=time.monotonic() - started), answers)
        if reply.outcome is Outcome.UNANSWERED and timeout < self._settings.longest_call:
            return Reply(reply.took, failure=_out_of_time())  # with the usual time, it may have been answered
        self._settle(model, tokens, reply)
        return reply

    def _time_left(self) -> timedelta:
        if self._deadline.left < SHORTEST_CALL:
            raise _out_of_time()
        return self._deadline.left

    def _connection(self, provider: Provider) -> Connection:
        if provider not in self._connections:
            self._connections[provider] = self._dialect.connect(provider, self._settings, self._environ)
        return self._connections[provider]

    def _settle(self, model: str, reserved: int, reply: Reply) -> None:
        if reply.failure is not None and reply.failure.disposition.whole_model:
            self._budget.block(model, reply.failure.retry_after)
        elif reply.outcome is Outcome.REFUSED:
            self._budget.settle(model, -reserved)
        elif reply.tokens is not None:
            self._budget.settle(model, reply.tokens - reserved)


def _out_of_time() -> OutOfTime:
    return OutOfTime("the time limit of the test is over", hint="raise it with --time-limit")


def request_of(texts: Sequence[str], call: Call) -> object:
    """Return what the endpoint sees of a call. Two calls with equal requests get the same answer."""
    dialect = dialect_of(call.provider)
    if isinstance(dialect, HttpDialect):
        return dialect.request(texts, call.spec, call.purpose, call.provider)
    return list(texts), call.spec, call.purpose


def effective(provider: Provider, spec: Spec) -> Provider:
    """Return the provider with the encoding and the parameter of its requests spelled out.

    An option is None if it makes no difference to the requests of the dialect.
    """
    now = request_of([FIRST], Call(provider, spec))
    spelled = provider
    for option, values in FORM.items():
        same = [
            value for value in values if request_of([FIRST], Call(_with(provider, option, value), spec)) == now
        ]
        spelled = _with(spelled, option, same[0] if len(same) == 1 else None)
    return spelled


def _with(provider: Provider, option: str, value: str | None) -> Provider:
    changed: dict[str, Any] = {option: value}
    return replace(provider, **changed)


def _reply(took: timedelta, answers: Sequence[Answer | ProviderError]) -> Reply:
    """Combine the answers to equal calls. The first failure stands for all."""
    good: list[Answer] = []
    for answer in answers:
        if isinstance(answer, ProviderError):
            return Reply(took, failure=answer)
        good.append(answer)
    counted = [answer.tokens for answer in good if answer.tokens is not None]
    return Reply(took, good[0].vectors, sum(counted) if len(counted) == len(good) else None)


def _at_once(call: Callable[[], Answer], copies: int) -> list[Answer | ProviderError]:
    """Make equal calls at once. Their threads don't keep the process from ending after Ctrl-C."""

    def make() -> Answer | ProviderError:
        try:
            return call()
        except ProviderError as failure:
            return failure

    if copies == 1:
        return [make()]
    replies: list[Future[Answer | ProviderError]] = [Future() for _ in range(copies)]

    def fill(reply: Future[Answer | ProviderError]) -> None:
        try:
            reply.set_result(make())
        except BaseException as error:  # noqa: BLE001  raised by `result` below
            reply.set_exception(error)

    for reply in replies:
        threading.Thread(target=fill, args=(reply,), name="provider-test", daemon=True).start()
    return [reply.result() for reply in replies]
