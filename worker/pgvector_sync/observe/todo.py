"""What to do about everything that isn't as it should be, in the words of `doctor`, from what was already read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from pgvector_sync.model import State
from pgvector_sync.observe.doctor.check import Check, Finding, warning
from pgvector_sync.observe.doctor.drift import judge_drift
from pgvector_sync.observe.doctor.pipeline import judge_dead_letters, judge_state, judge_truncated
from pgvector_sync.observe.doctor.workers import judge_beat, judge_workers
from pgvector_sync.observe.level import Level
from pgvector_sync.observe.status import PipelineStatus
from pgvector_sync.store.drift import Figures
from pgvector_sync.store.workers import Workers

OLD = timedelta(minutes=5)
"""The lag from which on an active pipeline is reported."""
URGENCY = {
    State.MISCONFIGURED: 0,
    State.REMOVING: 1,
    State.COOLING_DOWN: 2,
    State.PAUSED: 5,
    State.BACKFILLING: 6,
    State.ACTIVE: 6,
}


def of_workers(workers: Workers, statuses: Sequence[PipelineStatus], *, redis: bool) -> list[Check]:
    """Return what to do so that rows are processed at all.

    redis: whether beat is needed. It isn't with `sync`.
    """
    findings = [("workers", judge_workers(workers, statuses))] if statuses else []
    if statuses and workers.alive and (redis or workers.last_tick is not None):
        findings.append(("beat", judge_beat(workers)))
    return [_check(name, finding, None) for name, finding in findings if finding.level is not Level.OK]


def of_pipeline(status: PipelineStatus, drift: Figures | None, *, workers: bool) -> list[Check]:
    """Return what to do about one pipeline, most important first.

    workers: whether one is running. Without one, a lag says nothing about the pipeline.
    """
    return [
        _check(name, finding, status.name)
        for name, finding in _judged(status, drift, workers=workers)
        if finding.level is not Level.OK
    ]


def _judged(status: PipelineStatus, drift: Figures | None, *, workers: bool) -> Iterator[tuple[str, Finding]]:
    state = judge_state(status)
    yield "state", state
    if workers and status.state is State.ACTIVE and status.lag is not None and status.lag > OLD:
        minutes = int(status.lag.total_seconds() // 60)
        yield (
            "lag",
            warning(
                f"the oldest change has waited for {minutes:,} minutes",
                "see what holds it up: pgvector-sync doctor",
            ),
        )
    yield "dead_letters", judge_dead_letters(status)
    drifted = None if drift is None else judge_drift(drift)
    if drifted is not None:
        yield "drift", drifted
    yield "truncated", judge_truncated(status)


def urgency(status: PipelineStatus, todo: Sequence[Check]) -> int:
    """Return a number by which pipelines are sorted: smaller needs somebody sooner."""
    return min(URGENCY[status.state], 3 if todo and status.state is not State.PAUSED else 6)


def _check(name: str, finding: Finding, pipeline: str | None) -> Check:
    return Check(name, finding.level, finding.seen, finding.advice, pipeline)
