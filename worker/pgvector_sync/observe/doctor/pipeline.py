"""Checks of a pipeline's state, with the reason, of its dead letters and of texts that are cut."""

from __future__ import annotations

from collections.abc import Iterator

from pgvector_sync.model import Pipeline, State
from pgvector_sync.observe.doctor.check import Finding, error, ok, warning
from pgvector_sync.observe.status import read_status, truncated_texts
from pgvector_sync.runtime import Runtime


def state(runtime: Runtime, pipeline: Pipeline) -> Iterator[Finding]:
    status = read_status(runtime.database, pipeline.name)[0]
    if pipeline.problem is not None and status.state is State.MISCONFIGURED:
        return  # reported by the checks `source`, `target` and `capture`, with what to do
    description = f"{status.state.value}: {status.reason}" if status.reason else status.state.value
    waiting = f"; {status.waiting:,} rows wait"
    resume = f"pgvector-sync resume {pipeline.name}"
    match status.state:
        case State.MISCONFIGURED:
            yield error(description + waiting, f"fix this, then: {resume}")
        case State.COOLING_DOWN:
            at = f"{pipeline.retry_at:%H:%M:%S} UTC" if pipeline.retry_at else "the next probe"
            yield warning(description + waiting, f"it is retried automatically at {at}; to retry now: {resume}")
        case State.PAUSED:
            yield warning(description + waiting, f"to resume it: {resume}")
        case State.REMOVING:
            yield warning("a removal was interrupted", f"pgvector-sync remove {pipeline.name}")
        case State.BACKFILLING:
            yield ok(f"backfilling: about {status.to_backfill:,} rows left to read, {status.waiting:,} wait")
        case State.ACTIVE:
            yield ok(description + (waiting if status.waiting else ", nothing waits"))


def dead_letters(runtime: Runtime, pipeline: Pipeline) -> Iterator[Finding]:
    dead = read_status(runtime.database, pipeline.name)[0].dead
    if dead:
        yield warning(
            f"dead letters: {dead:,}",
            f"pgvector-sync dead-letters list {pipeline.name}; a row is retried automatically once it changes",
        )
    else:
        yield ok("none")


def truncated(runtime: Runtime, pipeline: Pipeline) -> Iterator[Finding]:
    count = read_status(runtime.database, pipeline.name)[0].truncated_inputs
    if count:
        yield warning(
            f"{truncated_texts(count)} in the last 7 days",
            "shorten the pipeline's `text`, or choose a model that reads longer texts",
        )
