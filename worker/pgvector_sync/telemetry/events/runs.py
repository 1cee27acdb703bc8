"""Events about backfills, re-embeds and reconciliations."""

from __future__ import annotations

from collections.abc import Mapping

from pgvector_sync.telemetry.event import Event, Level, event


@event("run_page", Level.DEBUG)
class RunPageEnqueued(Event):
    """The watermark of a backfill or re-embed has moved by a page."""

    pipeline: str
    run: int
    rows: int
    enqueued: int


@event("reconcile_page", Level.DEBUG)
class ReconcilePageCompared(Event):
    """A page of source and target was compared."""

    pipeline: str
    run: int
    rows: int
    drifted: int


@event("run_busy", Level.DEBUG)
class RunBusy(Event):
    """A page was blocked by locks of other transactions; it is tried again."""

    pipeline: str
    run: int


@event("run_refused", Level.WARNING)
class RunRefused(Event):
    """The database rejected a statement of a run."""

    pipeline: str
    run: int
    sqlstate: str | None


@event("run_refused", Level.WARNING)
class ReconcileNotStarted(Event):
    """The database rejected a statement that starts a reconciliation."""

    pipeline: str
    sqlstate: str | None


@event("run_failed", Level.ERROR)
class RunFailed(Event):
    """An unexpected exception in a run; the run has ended, or is tried again if it is a backfill."""

    pipeline: str
    run: int
    error: BaseException


@event("run_ended")
class RunEnded(Event):
    """A run has finished or failed; `runs show` says which."""

    pipeline: str
    run: int


@event("reconcile_due")
class ReconcileDue(Event):
    """The schedule, or the schema watch, has started a reconciliation."""

    pipeline: str
    deep: bool


@event("reconciled")
class Reconciled(Event):
    """Source and target were compared from end to end; each count of `counts` is a field of its own."""

    pipeline: str
    run: int
    counts: Mapping[str, int]

    def fields(self) -> dict[str, object]:
        return {"pipeline": self.pipeline, "run": self.run, **self.counts}
