"""The plan of `apply`: the differences between file and database, and what they require."""

from __future__ import annotations

from dataclasses import dataclass, field

from pgvector_sync.declare.changes import Change, provider_differences
from pgvector_sync.declare.file import PipelineConfig
from pgvector_sync.declare.rekey import Rekey
from pgvector_sync.declare.target import TakeOver
from pgvector_sync.embedding.dialects import dialect_of
from pgvector_sync.embedding.families.proposal import Proposal, proposal_of
from pgvector_sync.model import Effect, Options, Pipeline, Provider, Source, Spec
from pgvector_sync.model.counted import counted
from pgvector_sync.store.capture import Capture
from pgvector_sync.store.catalog import Table
from pgvector_sync.store.parsing import Expressions
from pgvector_sync.store.target_ddl import Target
from pgvector_sync.store.target_table import Demand


@dataclass(frozen=True)
class PipelinePlan:
    """What `apply` does for one pipeline; nothing if `idle`."""

    config: PipelineConfig
    existing: Pipeline | None
    source: Source
    table: Table
    provider: Provider
    target: Target
    expressions: Expressions
    read_columns: tuple[str, ...]
    rows: int
    """The source's rows; an estimate for a large table."""
    matching: int
    """The rows that match `where`."""
    matching_exact: bool
    changes: tuple[Change, ...]
    take_over: TakeOver | None
    """The existing target, kept by `remove --keep-vectors`, that this pipeline takes over."""
    recreate: bool
    """Whether the target was dropped and is created again."""
    capture: Capture
    missing_triggers: tuple[str, ...]
    demands: tuple[Demand, ...] = ()
    """The user's own constraints and triggers that may make the target refuse a write."""
    untried: tuple[str, ...] = ()
    """Functions that resolve names at run time, not tested under a worker's search_path for lack of a row."""

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def options(self) -> Options:
        """The options after `apply`."""
        return self.config.options

    @property
    def spec(self) -> Spec:
        """The spec after `apply`."""
        return Spec.of_documents(self.options)

    @property
    def proposal(self) -> Proposal | None:
        """What the file lacks for this pipeline's model. Not a difference: only a person decides about it."""
        return proposal_of(self.options, self.provider)

    @property
    def idle(self) -> bool:
        changed = self.changes or self.missing_triggers or self.recreate
        return self.existing is not None and not changed

    @property
    def creates_target(self) -> bool:
        return self.take_over is None and (self.existing is None or self.recreate)

    @property
    def backfill(self) -> bool:
        """Whether every row is read again. `backfill_words` says what is embedded."""
        return self.existing is None or self.recreate or self._has_effect(Effect.READS_AGAIN | Effect.EMBEDS_AGAIN)

    @property
    def retype(self) -> bool:
        """Whether the column of the target, which is empty, gets another type."""
        return not self.recreate and self._has_effect(Effect.RETYPES)

    def _has_effect(self, effect: Effect) -> bool:
        return any(change.effect & effect for change in self.changes)

    @property
    def may_cost(self) -> bool:
        """Whether the backfill may cost money: it reads rows, and the provider bills."""
        return self.backfill and self.matching > 0 and dialect_of(self.provider).billed

    @property
    def backfill_words(self) -> str:
        """What the backfill embeds, as text to show."""
        rows = ("" if self.matching_exact else "about ") + counted(self.matching, "row")
        if self.creates_target or self._has_effect(Effect.EMBEDS_AGAIN):
            return f"embeds {rows} with {self.options.model}"
        return f"reads {rows} again, and embeds those whose text differs"


@dataclass(frozen=True)
class ProviderPlan:
    """A provider that is stored, since it is new or its settings differ."""

    provider: Provider
    existing: Provider | None

    @property
    def name(self) -> str:
        return self.provider.name

    @property
    def changes(self) -> tuple[Change, ...]:
        """What differs; empty for a new provider."""
        return () if self.existing is None else provider_differences(self.existing, self.provider)


@dataclass
class Plan:
    pipelines: list[PipelinePlan] = field(default_factory=list)
    providers: list[ProviderPlan] = field(default_factory=list)
    """Providers that are new or whose settings differ."""
    rekeys: list[Rekey] = field(default_factory=list)
    """Sources whose key columns were renamed or widened."""
    unlisted: list[str] = field(default_factory=list)
    """Pipelines in the database but not in the file. They aren't changed."""

    @property
    def pending(self) -> list[PipelinePlan]:
        return [plan for plan in self.pipelines if not plan.idle]

    @property
    def empty(self) -> bool:
        return not (self.pending or self.providers or self.rekeys)
