"""What is wrong, how urgent it is and what to do, in the words of `doctor`, from what was already read.

`status`, its live view and the status page show these findings and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from pgvector_sync.model import State
from pgvector_sync.observe.finding import Check, Finding, warning
from pgvector_sync.observe.judge import (
    judge_beat,
    judge_dead_letters,
    judge_drift,
    judge_state,
    judge_truncated,
    judge_workers,
)
from pgvector_sync.observe.level import Level
from pgvector_sync.observe.status import PipelineStatus
from pgvector_sync.store.drift import Figures
from pgvector_sync.store.workers import Workers

OLD = timedelta(minutes=5)
"""The lag from which on an active pipeline is reported."""
_RANKS = {
    State.MISCONFIGURED: 0,
    State.REMOVING: 1,
    State.COOLING_DOWN: 2,
    State.PAUSED: 5,
    State.BACKFILLING: 6,
    State.ACTIVE: 6,
}


def state_of_workers(workers: Workers, statuses: Sequence[PipelineStatus], *, redis: bool) -> list[Check]:
    """Say whether rows can be processed at all: how many workers are running, and whether beat ticks.

    redis: whether beat is needed. It isn't with `sync`.
    """
    checks = [_check("workers", judge_workers(workers, statuses), None)]
    if workers.alive and (redis or workers.last_tick is not None):
        checks.append(_check("beat", judge_beat(workers), None))
    return checks


def of_workers(workers: Workers, statuses: Sequence[PipelineStatus], *, redis: bool) -> list[Check]:
    """Return what to do so that rows are processed at all. Without a pipeline there are none."""
    checks = state_of_workers(workers, statuses, redis=redis) if statuses else []
    return [check for check in checks if check.level is not Level.OK]


def of_pipeline(
    status: PipelineStatus, drift: Figures | None, *, workers: bool, in_bulk: bool = False
) -> list[Check]:
    """Return what to do about one pipeline, most important first.

    workers: whether one is running. Without one, a lag says nothing about the pipeline.
    in_bulk: whether a run of it is in progress, so that rows are expected to wait.
    """
    return [
        _check(name, finding, status.name)
        for name, finding in _judged(status, drift, lag=workers and not in_bulk)
        if finding.level is not Level.OK
    ]


def _judged(status: PipelineStatus, drift: Figures | None, *, lag: bool) -> Iterator[tuple[str, Finding]]:
    yield "state", judge_state(status)
    if lag and status.state is State.ACTIVE and status.lag is not None and status.lag > OLD:
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


def urgency(status: PipelineStatus, todo: Sequence[Check]) -> tuple[int, bool, float, str]:
    """Return what pipelines are sorted by: those that need attention, then those at work, then the others."""
    rank = min(_RANKS[status.state], 3 if todo and status.state is not State.PAUSED else 6)
    lag = 0.0 if status.lag is None else status.lag.total_seconds()
    return rank, status.settled, -lag, status.name


def worst(checks: Sequence[Check]) -> Level:
    """Return the level of the worst finding; OK if there is none."""
    return max((check.level for check in checks), key=list(Level).index, default=Level.OK)


def _check(name: str, finding: Finding, pipeline: str | None) -> Check:
    return Check(name, finding.level, finding.seen, finding.advice, pipeline)
