"""Bisection: split a failed request until the row that causes it is found, or a probe shows that no row does.

Splitting holds no row responsible, so one success in the batch is reason enough for it. A row is held responsible
only if a harmless text succeeds right after its failure: a provider that fails for a while can't turn rows into
dead letters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from pgvector_sync.batch.claim import Batch
from pgvector_sync.batch.failure import Failure
from pgvector_sync.batch.sizes import Sizes
from pgvector_sync.embedding.calls import Calls
from pgvector_sync.embedding.embedder import Embedder, Embeddings
from pgvector_sync.errors import CallRejected, InputRejected, Next, OutOfTime, ProviderError, RowFault, TimedOut
from pgvector_sync.failpoint import Failpoint, reach
from pgvector_sync.halving import Parts
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.model.learned import Learned
from pgvector_sync.store.rows import Vector32

PROBE_TEXT = "pgvector-sync asks whether this model answers."
WRITE_SHARE = 0.1
"""Share of the batch's time that is kept for the write, so that what was paid for can still be stored."""
REQUEST_SHARE = 1 / 4
"""Share of the remaining time for the probe or a request of several rows, once a request of the batch has hung."""
ROW_SHARE = 1 / 2
"""Share of the remaining time for a request of a single row, once a request of the batch has hung."""
SHORTEST_CALL_SHARE = 1 / 10
"""Share of the longest call below which no request is sent. A row that hangs leaves as much time as it used, and a
quarter of that goes to the probe, so a row that is held responsible had at least four times this share."""
MAX_SINGLE_ROWS = 50
"""Up to this number, rows are sent one by one once a request of the batch has hung."""

Wanted = Sequence[tuple[bytes, str]]
"""Fingerprints with their texts."""


@dataclass
class Embedded:
    """Vectors and failures by fingerprint. A fingerprint in neither was not reached."""

    vectors: dict[bytes, Vector32] = field(default_factory=dict)
    failures: dict[bytes, Failure] = field(default_factory=dict)
    stopped_by: ProviderError | None = None
    """The provider's own failure, which uses up no attempt."""
    bought: set[bytes] = field(default_factory=set)
    """Sent and not rejected, including an interrupted call. Buying these again has to be bounded."""
    requests: int = 0
    tokens: int = 0
    inputs: int = 0
    saved_equal: int = 0
    """Texts that another row of the batch has as well."""
    saved_stored: int = 0
    """Texts whose vector is stored."""
    truncated_inputs: int = 0
    learned: Learned | None = None
    """What is known about the size of requests after the batch; None if none was sent."""
    calls: Calls = field(default_factory=Calls)
    noted: bool = False
    """Whether the database has counted what this batch has spent."""


class Bisection:
    """The requests of one batch. Their results are in `done`, even if `embed` raises."""

    def __init__(self, embedder: Embedder, batch: Batch, done: Embedded, *, longest_call: timedelta) -> None:
        """`longest_call` is the time limit of one request."""
        self._embedder = embedder
        self._batch = batch
        self._done = done
        self._longest_call = longest_call
        self._sizes = Sizes(batch.pipeline.learned, longest_call=longest_call)
        self._until = Deadline.after(batch.until.left * (1 - WRITE_SHARE))
        self._answered = False
        """The provider has answered a request of this batch."""
        self._tried_again: set[bytes] = set()
        """Texts that are sent a second time, since their rejection may have been a coincidence."""
        self._hung = False
        """A request of this batch got no answer within its time limit. From then on, time is scarce."""

    def probe(self) -> None:
        """Embed a harmless text. Raises ProviderError.

        A probe does this before it sends a row: no content is bought repeatedly while the provider is down, and a
        failure right afterwards is the row's.
        """
        try:
            self._request([(b"", PROBE_TEXT)], probe=True)
        except InputRejected as rejected:
            raise _rejects_every_text(rejected) from None

    def embed(self, wanted: Wanted) -> None:
        """Embed the texts, splitting requests that fail. Raises ProviderError if no row is the cause."""
        parts = Parts(wanted)
        while part := parts.take():
            fingerprints = {fingerprint for fingerprint, _ in part}
            self._done.bought |= fingerprints  # unless the request is rejected
            try:
                answer = self._request(part)
            except ProviderError as error:
                self._done.bought -= fingerprints
                self._find_culprit(parts, part, error)
                continue
            left = [part[position] for position in answer.left]
            self._done.bought -= {fingerprint for fingerprint, _ in left}
            self._keep(part, answer)
            if answer.failure is not None:
                # One of several requests failed. The others' answers say nothing about its rows.
                if not (
                    self._may_be_a_rows(answer.failure, alone=False) or self._may_be_too_large(answer.failure)
                ):
                    raise answer.failure
                self._split(parts, part, left, answer.failure)

    @property
    def sizes(self) -> Sizes:
        """What the requests so far teach about their size."""
        return self._sizes

    def _find_culprit(self, parts: Parts[tuple[bytes, str]], part: Wanted, error: ProviderError) -> None:
        """Split `part`, or hold its only row responsible. Raises ProviderError if no row is the cause."""
        alone = len(part) == 1
        if self._may_be_too_large(error):
            self._split(parts, part, part, error)
            return
        if not self._may_be_a_rows(error, alone=alone):
            raise error
        if alone or not self._answered:
            self._require_healthy(error)
        fingerprint, _ = part[0]
        if not alone:
            self._split(parts, part, part, error)
        elif error.disposition.row is RowFault.PARKS_IF_REPEATED and fingerprint not in self._tried_again:
            self._tried_again.add(fingerprint)
            parts.put_back(part)
        else:
            self._done.failures[fingerprint] = _failure(error, fingerprint)

    def _split(self, parts: Parts[tuple[bytes, str]], part: Wanted, left: Wanted, error: ProviderError) -> None:
        """Try what is `left` of `part` again: the request that failed in parts, or alone if it is one text."""
        failed = [part[position] for position in error.positions]
        if self._hung or not failed:
            failed = list(left)  # time is scarce: no part may take long
        else:
            fingerprints = {fingerprint for fingerprint, _ in failed}
            parts.put_back([item for item in left if item[0] not in fingerprints])
        if not parts.cut(failed, size=self._size_of_parts(len(failed))):
            parts.put_back(failed)

    def _may_be_too_large(self, error: ProviderError) -> bool:
        return self._sizes.may_be_too_large(error)

    def _may_be_a_rows(self, error: ProviderError, *, alone: bool) -> bool:
        if error.disposition.row is RowFault.IN_A_PROBE:
            return alone and self._batch.probe
        return error.disposition.row is not RowFault.NEVER

    def _size_of_parts(self, count: int) -> int | None:
        """None for halves. Smaller parts once failures cost time rather than calls."""
        if not self._hung:
            return None
        return math.isqrt(count) if count > MAX_SINGLE_ROWS else 1

    def _keep(self, wanted: Wanted, answer: Embeddings) -> None:
        left = set(answer.left)
        self._done.inputs += len(wanted) - len(left)
        for position, ((fingerprint, _), vector) in enumerate(zip(wanted, answer.vectors, strict=True)):
            if position not in left:
                self._done.vectors[fingerprint] = vector

    def _request(self, part: Wanted, *, probe: bool = False) -> Embeddings:
        """Send and count one request. Raises TimedOut if it hung, OutOfTime if the batch has no time left."""
        until = self._limit(ROW_SHARE if len(part) == 1 and not probe else REQUEST_SHARE)
        fingerprints = [fingerprint for fingerprint, _ in part]
        reach(Failpoint.EMBED_CALLING)
        try:
            answer = self._embedder.embed(
                [text for _, text in part],
                self._batch.pipeline.spec,
                deadline=until,
                lane=self._batch.lane,
                learned=self._sizes.known,
                calls=self._done.calls,
            )
        except ProviderError as error:
            self._done.requests += 1
            self._sizes.failed([fingerprints[position] for position in error.positions], error)
            if self._hangs(error, until):
                self._hung = True
                raise TimedOut from None
            raise
        reach(Failpoint.EMBED_ANSWERED)
        self._done.requests += answer.requests + (answer.failure is not None)
        self._done.tokens += answer.tokens
        self._done.truncated_inputs += answer.truncated
        self._answered = True
        self._sizes.answered(fingerprints, answer)
        if (failure := answer.failure) is not None:
            self._sizes.failed([fingerprints[position] for position in failure.positions], failure)
            if self._hangs(failure, until):
                self._hung = True
        return answer

    def _hangs(self, error: ProviderError, until: Deadline) -> bool:
        """Whether the call's time limit, or its share of the batch's time, ended it, rather than the batch."""
        return error.unanswered and (error.disposition.pipeline is not Next.CARRY_ON or until < self._until)

    def _limit(self, share: float) -> Deadline:
        """Return the deadline of the next request.

        A row that hangs must not use up the time of the others, but needs enough time to be identified.
        """
        if not self._hung:
            return self._until
        limit = self._until.left * share
        if limit < self._longest_call * SHORTEST_CALL_SHARE:
            raise OutOfTime("the batch has no time left")
        return Deadline.after(limit)

    def _require_healthy(self, error: ProviderError) -> None:
        """Raises unless a harmless text succeeds now. Otherwise one rejected parameter would park every row."""
        try:
            self.probe()
        except ProviderError as failed:
            # A failure that no text can cause is reported, and so is an outage right after a rejected text.
            # Two failures that a text can cause are one outage, and the first of them describes it.
            vague = failed.disposition.row is RowFault.COSTS_ATTEMPT
            rejected = error.disposition.row.rejects
            raise (error if vague and not rejected else failed) from None


def _rejects_every_text(error: InputRejected) -> CallRejected:
    answer = f" ({error.answer})" if error.answer else ""
    message = f"the provider rejects every text{answer}"
    return CallRejected(message, status=error.status, code=error.code, hint=error.hint)


def _failure(error: ProviderError, fingerprint: bytes) -> Failure:
    """The row's failure. A rejection of any status parks the row at once, anything else costs an attempt."""
    error = error.of_one_input()
    return Failure(error.name, str(error), fingerprint, final=error.disposition.row is RowFault.PARKS)
