"""Bisection: a request that fails is cut until the row is found whose fault it is, or a probe says it is nobody's.

Cutting blames nobody, so one success in the batch is reason enough for it. A row is blamed only after a harmless
text has succeeded right behind its failure: a provider that changes meanwhile can't turn rows into dead letters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from pgvector_sync.batch.claim import Batch
from pgvector_sync.batch.failure import Failure
from pgvector_sync.embedding.embedder import Embedder, Embeddings
from pgvector_sync.errors import CallRejected, InputRejected, Next, OutOfTime, ProviderError, RowFault, TimedOut
from pgvector_sync.failpoint import Failpoint, reach
from pgvector_sync.halving import Parts
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.store.rows import Vector32

PROBE_TEXT = "pgvector-sync asks whether this model answers."
FOR_THE_WRITE = 0.1
"""Of the batch's time: what was paid for must still be written."""
SHARE, ROW_SHARE = 1 / 4, 1 / 2
"""Of the time left, once a request has hung: for one of several rows or the probe, and for one of a single row."""
LEAST = 1 / 10
"""Of the longest call: with less time than that nothing is asked any more. A row that hangs leaves as much time as
it had, and a quarter of that is the probe's: a row that is blamed had four times as much as this."""
FEW = 50
"""Rows that are asked one by one, once a request has hung."""

Wanted = Sequence[tuple[bytes, str]]
"""Fingerprints with their texts."""


@dataclass
class Embedded:
    """Vectors and failures by fingerprint; what is in neither was not reached."""

    vectors: dict[bytes, Vector32] = field(default_factory=dict)
    failures: dict[bytes, Failure] = field(default_factory=dict)
    stopped_by: ProviderError | None = None
    """The provider's own failure: nobody's attempt is used up."""
    bought: set[bytes] = field(default_factory=set)
    """Asked for and not refused, a call that was interrupted included: buying these again has to be bounded."""
    requests: int = 0
    tokens: int = 0
    inputs: int = 0
    saved_inputs: int = 0


class Bisection:
    """The requests of one batch; what they come to is in `done`, also when `ask` raises."""

    def __init__(self, embedder: Embedder, batch: Batch, done: Embedded, *, longest_call: timedelta) -> None:
        """`longest_call`: what one request may take."""
        self._embedder = embedder
        self._batch = batch
        self._done = done
        self._longest_call = longest_call
        self._until = Deadline.after(batch.until.left * (1 - FOR_THE_WRITE))
        self._answered = False
        """The provider has answered a request of this batch."""
        self._hung = False
        """A request of this batch went unanswered until its timeout: from here on, time is what is short."""

    def ask_harmless(self) -> None:
        """For a probe, before a row is sent: so no content is bought again and again while the provider is down,
        and what fails right behind it is the row's. Raises ProviderError.
        """
        try:
            self._embed([PROBE_TEXT], probe=True)
        except InputRejected as refused:
            raise _refuses_everything(refused) from None

    def ask(self, wanted: Wanted) -> None:
        """Raises ProviderError where it is the provider and not a row."""
        parts = Parts(wanted)
        while part := parts.take():
            fingerprints = {fingerprint for fingerprint, _ in part}
            self._done.bought |= fingerprints  # until a refusal says otherwise
            try:
                answer = self._embed([text for _, text in part])
            except ProviderError as error:
                self._done.bought -= fingerprints
                self._find_culprit(parts, part, error)
                continue
            left = [part[position] for position in answer.left]
            self._done.bought -= {fingerprint for fingerprint, _ in left}
            self._keep(part, answer)
            if answer.failure is not None:
                # several requests, one of which failed; how the others were answered tells nothing about its rows
                if not self._may_be_a_rows(answer.failure, alone=False):
                    raise answer.failure
                if not parts.cut(left, size=self._size_of_parts(len(left))):
                    parts.put_back(left)

    def _find_culprit(self, parts: Parts[tuple[bytes, str]], part: Wanted, error: ProviderError) -> None:
        """Raises ProviderError where it is the provider and not a row."""
        alone = len(part) == 1
        if not self._may_be_a_rows(error, alone=alone):
            raise error
        if alone or not self._answered:
            self._require_healthy(error)
        if not parts.cut(part, size=self._size_of_parts(len(part))):
            fingerprint, _ = part[0]
            self._done.failures[fingerprint] = _failure(error, fingerprint)

    def _may_be_a_rows(self, error: ProviderError, *, alone: bool) -> bool:
        if error.disposition.row is RowFault.IN_A_PROBE:
            return alone and self._batch.probe
        return error.disposition.row is not RowFault.NEVER

    def _size_of_parts(self, count: int) -> int | None:
        """Halves; many parts where failures cost time rather than calls."""
        if not self._hung:
            return None
        return math.isqrt(count) if count > FEW else 1

    def _keep(self, wanted: Wanted, answer: Embeddings) -> None:
        left = set(answer.left)
        self._done.inputs += len(wanted) - len(left)
        for position, ((fingerprint, _), vector) in enumerate(zip(wanted, answer.vectors, strict=True)):
            if position not in left:
                self._done.vectors[fingerprint] = vector

    def _embed(self, texts: Sequence[str], *, probe: bool = False) -> Embeddings:
        """Counts the request, and tells a call that hung from a batch without time."""
        until = self._limit(ROW_SHARE if len(texts) == 1 and not probe else SHARE)
        reach(Failpoint.EMBED_CALLING)
        try:
            answer = self._embedder.embed(texts, self._batch.pipeline.spec, deadline=until, lane=self._batch.lane)
        except ProviderError as error:
            self._done.requests += 1
            if self._hangs(error, until):
                self._hung = True
                raise TimedOut from None
            raise
        reach(Failpoint.EMBED_ANSWERED)
        self._done.requests += answer.requests + (answer.failure is not None)
        self._done.tokens += answer.tokens
        self._answered = True
        if answer.failure is not None and self._hangs(answer.failure, until):
            self._hung = True
        return answer

    def _hangs(self, error: ProviderError, until: Deadline) -> bool:
        """Whether a time limit of the call ended it, or its share of the batch's time, but not the batch's end."""
        return error.unanswered and (error.disposition.pipeline is not Next.CARRY_ON or until < self._until)

    def _limit(self, share: float) -> Deadline:
        """Until when a request may take.

        One row that hangs must neither use up the time of the others nor go unfound for want of it.
        """
        if not self._hung:
            return self._until
        limit = self._until.left * share
        if limit < LEAST * self._longest_call:
            raise OutOfTime("the batch has no time left")
        return Deadline.after(limit)

    def _require_healthy(self, error: ProviderError) -> None:
        """Raises unless a harmless text succeeds right now: else one refused parameter would park a table."""
        try:
            self.ask_harmless()
        except ProviderError as failed:
            # What is never a text's is the truth, and so is an outage where the text was refused a moment before.
            # Two failures of kinds that may be a text's are one outage, and the first says which.
            vague = failed.disposition.row is RowFault.COSTS_ATTEMPT
            refused = error.disposition.row is RowFault.PARKS
            raise (error if vague and not refused else failed) from None


def _refuses_everything(error: InputRejected) -> CallRejected:
    return CallRejected("the provider refuses every text", status=error.status, code=error.code, hint=error.hint)


def _failure(error: ProviderError, fingerprint: bytes) -> Failure:
    """What is held against the row: a refusal of any status parks it at once, anything else costs an attempt."""
    error = error.of_one_input()
    return Failure(error.name, str(error), fingerprint, final=error.disposition.row is RowFault.PARKS)
