"""What the requests of one batch teach about the size of a request (the rules are in `embedding/learning.py`).

Whether a refused request was too large is known only later: when all its texts were answered in smaller requests.
If a single text isn't answered, that text was the reason. A rate limit is never a text's fault, so there one
smaller request that is answered is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from pgvector_sync.embedding import learning
from pgvector_sync.embedding.embedder import Embeddings
from pgvector_sync.embedding.learning import Size
from pgvector_sync.errors import Next, ProviderError
from pgvector_sync.model.learned import Learned

NOTHING = Size(0, 0)


@dataclass
class _Refused:
    """A refused request."""

    size: Size
    left: set[bytes]
    """The fingerprints of its texts that weren't answered yet."""
    by_quota: bool
    in_vain: bool
    """Whether it was known before that this may be too large."""
    fits: Size = NOTHING
    """The largest request with its texts that was answered."""

    def answered(self, fingerprints: set[bytes], size: Size) -> None:
        if not self.left.isdisjoint(fingerprints):
            self.left -= fingerprints
            self.fits = max(self.fits, size)

    @property
    def was_too_large(self) -> bool:
        return self.fits.inputs > 0 and (self.by_quota or not self.left)


class Sizes:
    """What is known about sizes, from the claim of a batch to its end."""

    def __init__(self, learned: Learned, *, longest_call: timedelta) -> None:
        self._learned = self.known = learned
        self._longest_call = longest_call
        self._refused: list[_Refused] = []
        self._largest = 0
        """The bytes of the batch's largest answered request."""
        self._most_inputs = 0
        self._failed = self._timed_out = False
        self._limited: Size | None = None
        """A request that was rate limited, with none of half its size answered before."""

    def answered(self, fingerprints: Sequence[bytes], answer: Embeddings) -> None:
        """Learn from the requests that were answered. `fingerprints` are those of all texts of the call."""
        for sent in answer.sent:
            size = Size(len(sent.positions), sent.octets)
            self._largest = max(self._largest, size.octets)
            self._most_inputs = max(self._most_inputs, size.inputs)
            self.known = learning.answered(self.known, size, sent.took, self._longest_call)
            if self._refused:
                answered = {fingerprints[position] for position in sent.positions}
                for refused in self._refused:
                    refused.answered(answered, size)
        # the smallest first: what larger ones teach is contained in it
        for refused in sorted(self._refused, key=lambda refused: refused.size):
            if refused.was_too_large:
                self._refused.remove(refused)
                self.known = learning.refused(self.known, refused.size, refused.fits, by_quota=refused.by_quota)
                if refused.in_vain:
                    self.known = learning.tried_in_vain(self.known)

    def failed(self, fingerprints: Sequence[bytes], error: ProviderError) -> None:
        """Learn from a request that failed. `fingerprints` are those of its texts."""
        self._failed = True
        if not fingerprints:
            return
        size = Size(len(fingerprints), error.octets)
        if error.unanswered:
            # It counts if it had the time of a whole call. The parts of a request that timed out do so for a text.
            if error.disposition.pipeline is not Next.CARRY_ON and not self._timed_out:
                self._timed_out = True
                self.known = learning.timed_out(self.known, size, self._longest_call)
            return
        by_quota = error.disposition.quota
        if size.inputs > 1:
            in_vain = learning.was_refused(self.known, size)
            self._refused.append(_Refused(size, set(fingerprints), by_quota, in_vain))
        if not by_quota or learning.tests_a_quota(self.known, size):
            return
        if size.inputs == 1 and self._refused:
            self.known = learning.tried_in_vain(self.known)  # the rate is the reason
        elif self._largest * 2 < size.octets:
            self._limited = size

    def may_be_too_large(self, error: ProviderError) -> bool:
        """Whether a request that was rate limited is tried in parts, instead of waiting."""
        return error.disposition.quota and learning.tests_a_quota(
            self.known, Size(len(error.positions), error.octets)
        )

    @property
    def inputs_per_request(self) -> int | None:
        """How many texts a request has, if what was learned limits that."""
        known = self.known
        limited = known.max_inputs or known.max_bytes or known.bytes_per_second
        return self._most_inputs if limited and self._most_inputs > 1 else None

    def end(self) -> Learned:
        """Return what is known at the end of the batch."""
        if self._limited is not None:
            return learning.rate_limited(self.known, self._limited)
        nothing_new = self.known == self._learned and not self._failed and self._most_inputs > 1
        return learning.more_at_once(self.known) if nothing_new else self.known
