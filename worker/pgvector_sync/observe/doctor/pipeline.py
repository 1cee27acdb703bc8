"""Checks of a pipeline's state, with the reason, of its dead letters and of texts that are cut."""

from __future__ import annotations

from collections.abc import Iterator

from pgvector_sync.model import Pipeline, State
from pgvector_sync.observe.finding import Finding
from pgvector_sync.observe.judge import judge_dead_letters, judge_state, judge_truncated
from pgvector_sync.observe.status import read_status
from pgvector_sync.runtime import Runtime


def state(runtime: Runtime, pipeline: Pipeline) -> Iterator[Finding]:
    status = read_status(runtime.database, pipeline.name)[0]
    if pipeline.problem is not None and status.state is State.MISCONFIGURED:
        return  # reported by the checks `source`, `target` and `capture`, with what to do
    yield judge_state(status)


def dead_letters(runtime: Runtime, pipeline: Pipeline) -> Iterator[Finding]:
    yield judge_dead_letters(read_status(runtime.database, pipeline.name)[0])


def truncated(runtime: Runtime, pipeline: Pipeline) -> Iterator[Finding]:
    status = read_status(runtime.database, pipeline.name)[0]
    if status.truncated_inputs:
        yield judge_truncated(status)
