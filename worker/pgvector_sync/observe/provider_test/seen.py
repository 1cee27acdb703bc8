"""What is known so far: every reply by the name of its trial, and what follows from them for the next calls."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from pgvector_sync.model import Provider, Spec
from pgvector_sync.observe.provider_test.reply import Outcome, Reply, likeness

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pgvector_sync.embedding.dialects.dialect import Limits
    from pgvector_sync.embedding.families.proposal import Proposal

Encoding = Literal["base64", "float", "none"]
Parameter = Literal["dimensions", "output_dimension", "none"]
ENCODINGS: tuple[Encoding, ...] = ("base64", "float")
"""In the order of preference: base64 is shorter. `none` is what is left."""
PARAMETERS: tuple[Parameter, ...] = ("dimensions", "output_dimension")

NOISE = 1e-5
"""How far from 1 the cosine of two equal vectors may be."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The provider to test, and what its pipelines ask of it."""

    provider: Provider
    effective: Provider
    """With the encoding and the parameter of its requests spelled out, None where they make no difference."""
    spec: Spec
    query_spec: Spec
    limits: Limits
    """Those that requests to the provider keep now."""
    remote: bool
    """Whether texts leave this process."""
    pipeline: str | None = None
    """The pipeline whose settings are used."""
    proposal: Proposal | None = None
    """What the pipeline's section lacks for its model."""


@dataclass(slots=True)
class Seen:
    """The replies so far. Every property follows from them alone."""

    subject: Subject
    replies: dict[str, Reply] = field(default_factory=dict)
    calls: int = 0
    texts: int = 0

    def answered(self, name: str) -> bool:
        """Whether this trial was made, and answered."""
        return name in self.replies and self.replies[name].answered

    def refused(self, name: str) -> bool:
        """Whether this trial was made, and the request turned out to be more than the provider takes."""
        too_much = {Outcome.REFUSED, Outcome.INVALID, Outcome.UNANSWERED}
        return name in self.replies and self.replies[name].outcome in too_much

    @property
    def ended_by(self) -> Reply | None:
        """The reply after which no further call makes sense."""
        return next((reply for reply in self.replies.values() if reply.outcome is Outcome.ENDS), None)

    @property
    def works(self) -> bool:
        """Whether the provider answers with the settings that it has now."""
        return self.answered("configured")

    @property
    def native(self) -> int | None:
        """The size of the model's vectors if no size is requested, or none that it has."""
        sizes = [self.replies[name].size for name in ("plain", *ENCODINGS) if name in self.replies]
        if not sizes and not self.works and "configured" in self.replies:
            sizes = [self.replies["configured"].size]
        return next((size for size in sizes if size is not None), None)

    @property
    def reachable(self) -> bool:
        """Whether the provider answers at all."""
        return self.works or self.native is not None

    @property
    def plain(self) -> Provider:
        """The provider without optional parameters."""
        return replace(self.subject.provider, encoding="none", dimensions_parameter="none")

    @property
    def base(self) -> Provider:
        """The provider with the fewest parameters to which it answers."""
        if self.native is None or "plain" not in self.replies:
            return self.subject.provider
        return (
            self.plain if self.replies["plain"].size is not None else replace(self.plain, encoding=self._encoding)
        )

    @property
    def asked(self) -> int:
        """A size that shows whether a request for a size is honoured: not the one that is returned anyway."""
        wanted = self.subject.spec.dimensions
        return wanted if wanted != self.native else max(1, wanted // 2)

    @property
    def settled(self) -> tuple[Provider, Spec]:
        """The settings and the spec with which the provider answers, if it is reachable."""
        provider, spec = self.subject.provider, self.subject.spec
        if self.works or self.native is None:
            return provider, spec
        if "plain" not in self.replies:
            return provider, replace(spec, dimensions=self.native)
        honoured = next((each for each in PARAMETERS if self.answered(each)), None)
        if self.subject.effective.dimensions_parameter == "none" and spec.dimensions == self.native:
            honoured = None
        provider = replace(provider, encoding=self._encoding, dimensions_parameter=honoured or "none")
        return provider, spec if honoured else replace(spec, dimensions=self.native)

    @property
    def _encoding(self) -> Encoding:
        """The best encoding that is accepted."""
        taken = (each for each in ENCODINGS if each in self.replies and self.replies[each].size is not None)
        return next(taken, "none")

    @property
    def ready(self) -> bool:
        """Whether the settled settings were tried and are answered."""
        return self.answered("first") and self.answered("second")

    @property
    def batches(self) -> list[int]:
        """The sizes of the batches that were tried, ascending."""
        return sorted(int(name.removeprefix("batch ")) for name in self.replies if name.startswith("batch "))

    @property
    def largest(self) -> int:
        """The largest batch that was answered."""
        return max((size for size in self.batches if self.answered(f"batch {size}")), default=1)

    @property
    def pair(self) -> int | None:
        """The size of the batch that was sent twice at once."""
        sizes = (int(name.removeprefix("two of ")) for name in self.replies if name.startswith("two of "))
        return next(sizes, None)

    @property
    def noise(self) -> float:
        """By how much less than 1 the cosine of the vectors of one text is that was sent twice."""
        first, again = (
            self.replies[name].vectors if name in self.replies else None for name in ("first", "again")
        )
        return 0.0 if first is None or again is None else max(0.0, 1 - likeness(first[0], again[0]))

    def same(self, one: str, other: str) -> bool:
        """Whether two trials with one text each have the same vector, as far as the endpoint repeats itself."""
        vectors = self._single(one, other)
        return len(vectors) == 2 and likeness(*vectors) >= 1 - max(NOISE, 2 * self.noise)

    def _single(self, *names: str) -> list[NDArray[np.float32]]:
        """Return the vectors of those of these trials, each of one text, that were answered."""
        vectors = [self.replies[name].vectors for name in names if self.answered(name)]
        return [each[0] for each in vectors if each is not None]
