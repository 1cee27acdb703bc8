"""The plan of `apply`: what differs between the file and the database, and what has to be done about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from pgvector_sync.declare.changes import Change
from pgvector_sync.declare.file import PipelineConfig
from pgvector_sync.declare.rekey import Rekey
from pgvector_sync.declare.target import TakeOver
from pgvector_sync.embedding.dialects import dialect_of
from pgvector_sync.model import Effect, Options, Pipeline, Provider, Source, Spec
from pgvector_sync.store.catalog import Table
from pgvector_sync.store.probe import Expressions
from pgvector_sync.store.target_ddl import Target
from pgvector_sync.store.target_table import Demand
from pgvector_sync.store.triggers import Capture


@dataclass(frozen=True)
class PipelinePlan:
    """What has to be done for one pipeline; nothing, when `idle`."""

    config: PipelineConfig
    existing: Pipeline | None
    source: Source
    table: Table
    provider: Provider
    target: Target
    expressions: Expressions
    read_columns: tuple[str, ...]
    rows: int
    """In the source; about so many where the table is large."""
    matching: int
    """Those that `where` accepts."""
    matching_exact: bool
    changes: tuple[Change, ...]
    take_over: TakeOver | None
    """A target that is there already, kept by `remove --keep-vectors`."""
    recreate: bool
    """The target was dropped and is made again."""
    capture: Capture
    missing_triggers: tuple[str, ...]
    demands: tuple[Demand, ...] = ()
    """What may make the target refuse a write: constraints and triggers of the user's own."""
    untried: tuple[str, ...] = ()
    """Functions that look names up when they run, and no row to try them on under a worker's search_path."""

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def options(self) -> Options:
        """As they will be."""
        return self.config.options

    @property
    def spec(self) -> Spec:
        """As it will be."""
        return Spec(self.options.model, self.options.dimensions)

    @property
    def idle(self) -> bool:
        changed = self.changes or self.missing_triggers or self.recreate
        return self.existing is not None and not changed

    @property
    def creates_target(self) -> bool:
        return self.take_over is None and (self.existing is None or self.recreate)

    @property
    def backfill(self) -> bool:
        """Every row is read again; what is paid for is said by `pays`."""
        return self.existing is None or self.recreate or self._asks_for(Effect.READS_AGAIN | Effect.EMBEDS_AGAIN)

    @property
    def retype(self) -> bool:
        """The (empty) target's column gets another type."""
        return not self.recreate and self._asks_for(Effect.RETYPES)

    def _asks_for(self, effect: Effect) -> bool:
        return any(change.effect & effect for change in self.changes)

    @property
    def costs(self) -> bool:
        """A backfill of rows that are there, at a provider that may send a bill."""
        return self.backfill and self.matching > 0 and dialect_of(self.provider).billed

    @property
    def pays(self) -> str:
        """What the backfill will embed, in words."""
        count = f"{self.matching:,}" if self.matching_exact else f"about {self.matching:,}"
        if self.creates_target or self._asks_for(Effect.EMBEDS_AGAIN):
            return f"embeds {count} rows with {self.options.model}"
        return f"reads {count} rows again, and embeds those whose text differs"


@dataclass
class Plan:
    pipelines: list[PipelinePlan] = field(default_factory=list)
    providers: list[Provider] = field(default_factory=list)
    """Those whose settings change; no vector depends on them."""
    rekeys: list[Rekey] = field(default_factory=list)
    """Sources whose key columns were renamed or widened."""
    unlisted: list[str] = field(default_factory=list)
    """In the database but not in the file: left alone."""

    @property
    def pending(self) -> list[PipelinePlan]:
        return [plan for plan in self.pipelines if not plan.idle]

    @property
    def empty(self) -> bool:
        return not (self.pending or self.providers or self.rekeys)
