"""The results of `Sync` that no lower layer defines."""

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
    """The pipelines and the workers."""

    workers: Workers
    pipelines: tuple[PipelineStatus, ...]


@dataclass(frozen=True, slots=True)
class Resumed:
    """The result of `Sync.resume`."""

    changed: bool
    """False if the pipeline was already active."""
    problems: tuple[str, ...]
    """What still prevents embedding: each mismatch of the source, the target or the triggers."""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The result of a reconciliation. Counts are in rows, except `vectors`."""

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
    """The number of orphaned vectors whose partition no longer exists."""
    enqueued: int
    dead: int
    """The number of enqueued rows that became dead letters."""
    samples: dict[str, list[Any]]
    """Up to ten keys per kind of drift."""

    @classmethod
    def of(cls, run: Run) -> Self:
        request = run.request
        options = request if isinstance(request, Reconcile) else Reconcile()
        counted = ("rows", "vectors", "unplaced", *Drift)
        return cls(
            pipeline=run.pipeline,
            run_id=run.id,
            state=run.state,
            reason=run.reason,
            deep=options.deep,
            dry_run=options.dry_run,
            enqueued=run.rows_enqueued,
            dead=run.dead,
            samples={kind: run.samples.get(kind, []) for kind in Drift},
            **{name: run.counts.get(name, 0) for name in counted},
        )

    @property
    def drifted(self) -> int:
        """The number of drifted rows of all kinds."""
        return sum(getattr(self, kind) for kind in Drift)

    @property
    def succeeded(self) -> bool:
        """Whether the run finished and no drift is left: none was found, or all of it was repaired."""
        return self.state == "finished" and not (self.drifted if self.dry_run else self.dead)
