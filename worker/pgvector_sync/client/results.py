"""What `Sync` answers with, where no lower layer has a type for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from pgvector_sync.model.request import Reconcile
from pgvector_sync.observe.status import PipelineStatus
from pgvector_sync.store.drift import Drift
from pgvector_sync.store.runs import Run
from pgvector_sync.store.workers import Workers


@dataclass(frozen=True, slots=True)
class Status:
    """How every pipeline stands."""

    workers: Workers
    pipelines: tuple[PipelineStatus, ...]


@dataclass(frozen=True, slots=True)
class Resumed:
    """What `resume` did."""

    changed: bool
    """False: it was running already."""
    problems: tuple[str, ...]
    """What still stops the pipeline, though it was resumed: source, target or triggers aren't as it needs them."""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What a run of `reconcile` found, in rows, and what became of it."""

    pipeline: str
    run_id: int
    state: str
    """`running`, `finished`, `cancelled` or `failed`."""
    reason: str | None
    deep: bool
    dry_run: bool
    rows: int
    vectors: int
    missing: int
    stale: int
    orphaned: int
    wrong_model: int
    broken: int
    incomplete: int
    stuck: int
    unplaced: int
    """Of the orphaned, how many are of partitions that are gone."""
    enqueued: int
    dead: int
    """Of those enqueued, how many became dead letters."""
    samples: dict[str, list[Any]]
    """Up to ten keys of each kind of drift."""

    @classmethod
    def of(cls, run: Run) -> Self:
        request = run.request
        asked = request if isinstance(request, Reconcile) else Reconcile()
        counted = ("rows", "vectors", "unplaced", *Drift)
        return cls(
            pipeline=run.pipeline,
            run_id=run.id,
            state=run.state,
            reason=run.reason,
            deep=asked.deep,
            dry_run=asked.dry_run,
            enqueued=run.rows_enqueued,
            dead=run.dead,
            samples={kind: run.samples.get(kind, []) for kind in Drift},
            **{name: run.counts.get(name, 0) for name in counted},
        )

    @property
    def drifted(self) -> int:
        """Rows that had drifted, of all kinds."""
        return sum(getattr(self, kind) for kind in Drift)

    @property
    def succeeded(self) -> bool:
        """Whether it came to its end and left nothing drifted: what it found is repaired, or it found nothing."""
        return self.state == "finished" and not (self.drifted if self.dry_run else self.dead)
