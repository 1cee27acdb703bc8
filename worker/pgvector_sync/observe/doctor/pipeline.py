"""Checks of a pipeline's state, with the reason, of its dead letters and of texts that are cut."""

from __future__ import annotations

from collections.abc import Iterator

from pgvector_sync.model import Pipeline, State
from pgvector_sync.observe.doctor.check import Finding, error, ok, warning
from pgvector_sync.observe.status import PipelineStatus, read_status, truncated_texts
from pgvector_sync.runtime import Runtime


def state(runtime: Runtime, pipeline: Pipeline) -> Iterator[Finding]:
    status = read_status(runtime.database, pipeline.name)[0]
    if pipeline.problem is not None and status.state is State.MISCONFIGURED:
        return  # reported by the checks `source`, `target` and `capture`, with what to do
    yield judge_state(status)


def judge_state(status: PipelineStatus) -> Finding:
    """Say what a pipeline's state means, and what to do about it."""
    description = f"{status.state.value}: {status.reason}" if status.reason else status.state.value
    waiting = f"; {status.waiting:,} rows wait"
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
            return ok(f"backfilling: about {status.to_backfill:,} rows left to read, {status.waiting:,} wait")
        case State.ACTIVE:
            return ok(description + (waiting if status.waiting else ", nothing waits"))


def dead_letters(runtime: Runtime, pipeline: Pipeline) -> Iterator[Finding]:
    yield judge_dead_letters(read_status(runtime.database, pipeline.name)[0])


def judge_dead_letters(status: PipelineStatus) -> Finding:
    """Say how many dead letters there are, and what to do about them."""
    if not status.dead:
        return ok("none")
    return warning(
        f"dead letters: {status.dead:,}",
        f"pgvector-sync dead-letters list {status.name}; a row is retried automatically once it changes",
    )


def truncated(runtime: Runtime, pipeline: Pipeline) -> Iterator[Finding]:
    status = read_status(runtime.database, pipeline.name)[0]
    if status.truncated_inputs:
        yield judge_truncated(status)


def judge_truncated(status: PipelineStatus) -> Finding:
    """Say how many texts the model didn't read to their end."""
    if not status.truncated_inputs:
        return ok("none")
    return warning(
        f"{truncated_texts(status.truncated_inputs)} in the last 7 days",
        "shorten the pipeline's `text`, or choose a model that reads longer texts",
    )
