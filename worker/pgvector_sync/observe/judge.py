"""Judges what was read about pipelines and workers, for doctor, `status --watch` and the status page. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from pgvector_sync.model import State
from pgvector_sync.model.counted import counted
from pgvector_sync.observe.finding import Finding, error, ok, warning
from pgvector_sync.observe.status import (
    START_A_WORKER,
    PipelineStatus,
    lacks_workers,
    truncated_texts,
    why_no_worker,
)
from pgvector_sync.store.drift import Drift, Figures
from pgvector_sync.store.workers import Workers

SILENT = timedelta(minutes=2)
"""Beat ticks every ten seconds, but a tick can wait for a minute behind the batches and runs of a busy worker."""


def judge_state(status: PipelineStatus) -> Finding:
    """Say what a pipeline's state means, and what to do about it."""
    description = f"{status.state.value}: {status.reason}" if status.reason else status.state.value
    waiting = f"; {counted(status.waiting, 'row waits', 'rows wait')}"
    resume = f"pgvector-sync resume {status.name}"
    match status.state:
        case State.MISCONFIGURED:
            return error(description + waiting, f"fix this, then: {resume}")
        case State.COOLING_DOWN:
            at = f"{status.retry_at:%H:%M:%S} UTC" if status.retry_at else "the next probe"
            return warning(description + waiting, f"it is retried automatically at {at}; to retry now: {resume}")
        case State.PAUSED:
            return warning(description + waiting, f"to resume it: {resume}")
        case State.REMOVING:
            return warning("a removal was interrupted", f"pgvector-sync remove {status.name}")
        case State.BACKFILLING:
            return ok(
                f"backfilling: about {counted(status.to_backfill, 'row')} left to read, {status.waiting:,} wait"
            )
        case State.ACTIVE:
            return ok(description + (waiting if status.waiting else ", nothing waits"))


def judge_dead_letters(status: PipelineStatus) -> Finding:
    """Say how many dead letters there are, and what to do about them."""
    if not status.dead:
        return ok("none")
    return warning(
        f"dead letters: {status.dead:,}",
        f"pgvector-sync dead-letters list {status.name}; a row is retried automatically once it changes",
    )


def judge_truncated(status: PipelineStatus) -> Finding:
    """Say how many texts the model didn't read to their end."""
    if not status.truncated_inputs:
        return ok("none")
    return warning(
        f"{truncated_texts(status.truncated_inputs)} in the last 7 days",
        "shorten the pipeline's `text`, or choose a model that reads longer texts",
    )


def judge_drift(last: Figures) -> Finding | None:
    """Say what a reconciliation found; None if it found no drift."""
    counts = {kind.value: getattr(last, kind.value) for kind in Drift if getattr(last, kind.value)}
    if not counts:
        return None
    drifted = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in counts.items())
    return warning(
        f"drift on {when_compared(last)}: {drifted}, of {counted(last.rows, 'row')}",
        f"pgvector-sync runs show {last.run_id} shows whether it was repaired; check again: "
        f"pgvector-sync reconcile {last.pipeline} --dry-run",
    )


def when_compared(figures: Figures) -> str:
    """Say when a reconciliation was."""
    return f"{figures.at:%Y-%m-%d %H:%M} UTC"


def judge_workers(running: Workers, statuses: Sequence[PipelineStatus]) -> Finding:
    """Say whether enough workers are running for what waits."""
    if running.slots:
        return ok(f"{counted(running.alive, 'worker')}, {counted(running.slots, 'slot')}")
    ago = "" if running.last_seen is None else f"; last seen {_ago(running.last_seen)} ago"
    if lacks_workers(statuses, running):
        return error(f"{why_no_worker(running)}, and rows wait{ago}", START_A_WORKER)
    return warning(f"{why_no_worker(running)}{ago}", START_A_WORKER)


def _ago(age: timedelta) -> timedelta:
    return timedelta(seconds=int(age.total_seconds()))


def judge_beat(running: Workers) -> Finding:
    """Say whether beat ticks. Only a worker can record a tick, so without one nothing is said against beat."""
    age = running.last_tick
    if not running.alive and (age is None or age > SILENT):
        return warning(
            "unknown whether beat is running: a worker handles its ticks, and none is running",
            "start a worker, then look again",
        )
    if age is None:
        return warning("beat has never ticked: lost doorbells aren't made up for", "start it: pgvector-sync beat")
    if age > SILENT:
        return warning(
            f"last beat tick {age.total_seconds():,.0f} s ago",
            "check that `pgvector-sync beat` and a worker, which handles its ticks, are running",
        )
    return ok(f"last beat tick {age.total_seconds():,.0f} s ago")
