"""What a pipeline says of itself: its state with the reason, its backfill, its dead letters."""

from __future__ import annotations

from collections.abc import Iterator

from pgvector_sync.model import Pipeline, State
from pgvector_sync.observe.doctor.check import Finding, error, ok, warning
from pgvector_sync.observe.status import read_status
from pgvector_sync.runtime import Runtime


def state(runtime: Runtime, pipeline: Pipeline) -> Iterator[Finding]:
    status = read_status(runtime.database, pipeline.name)[0]
    if pipeline.problem is not None and status.state is State.MISCONFIGURED:
        return  # the checks of source, target and triggers say so, with what to do
    because = f"{status.state.value}: {status.reason}" if status.reason else status.state.value
    waiting = f"; {status.waiting:,} rows wait"
    resume = f"pgvector-sync resume {pipeline.name}"
    match status.state:
        case State.MISCONFIGURED:
            yield error(because + waiting, f"repair that, then: {resume}")
        case State.COOLING_DOWN:
            at = f"{pipeline.retry_at:%H:%M:%S} UTC" if pipeline.retry_at else "its next probe"
            yield warning(because + waiting, f"it tries again by itself at {at}; at once: {resume}")
        case State.PAUSED:
            yield warning(because + waiting, f"when it may go on: {resume}")
        case State.REMOVING:
            yield warning("a removal was interrupted", f"pgvector-sync remove {pipeline.name}")
        case State.BACKFILLING:
            yield ok(
                f"backfilling: about {status.to_backfill:,} rows are still to be read, {status.waiting:,} wait"
            )
        case State.ACTIVE:
            yield ok(because + (waiting if status.waiting else ", nothing waits"))


def dead_letters(runtime: Runtime, pipeline: Pipeline) -> Iterator[Finding]:
    dead = read_status(runtime.database, pipeline.name)[0].dead
    if dead:
        yield warning(
            f"{dead:,} parked",
            f"pgvector-sync dead-letters list {pipeline.name}; a row that changes is tried again by itself",
        )
    else:
        yield ok("none")
