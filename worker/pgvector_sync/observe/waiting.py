"""Waiting for a run, and enqueueing its rows meanwhile, so that a waiting command only needs workers to embed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import timedelta

from pgvector_sync.errors import Refused
from pgvector_sync.model import State
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.model.request import Kind
from pgvector_sync.observe.status import START_A_WORKER, read_status, read_workers, why_no_worker
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import pipelines, runs
from pgvector_sync.store.runs import Run

POLL_EVERY = timedelta(milliseconds=200)
ENQUEUE_FOR = timedelta(seconds=2)
"""How long rows are enqueued between two polls. Pages start small each time and grow."""
STALLED_AFTER = timedelta(seconds=15)
"""A run without progress for this long counts as stalled."""
STALLED_WITHOUT_WORKER_AFTER = timedelta(seconds=3)
"""The same if no worker is running: long enough for a starting worker's first heartbeat."""


def require_not_paused(runtime: Runtime, names: Iterable[str]) -> None:
    """Check this before requesting a run. Raises Refused for a pipeline that is paused or unknown."""
    with runtime.database.transaction(read_only=True) as connection:
        for name in names:
            if pipelines.require_pipeline(connection, name).state is State.PAUSED:
                raise Refused(f"{name} is paused", hint=f"pgvector-sync resume {name}; nothing was requested")


def wait_for(
    runtime: Runtime,
    run_id: int,
    *,
    on_progress: Callable[[Run], None],
    on_silence: Callable[[Run], None] = lambda _: None,
    timeout: timedelta | None = None,
    walk: bool = True,
) -> Run:
    """Wait until the run has ended, and return it. Workers embed what it enqueues.

    on_progress: called after each poll.
    on_silence: called once each time the run stalls.
    walk: enqueue the run's rows in this process meanwhile.
    Raises TimeoutError after `timeout`, and Refused for an unknown run.
    """
    started = last_progress = time.monotonic()
    from pgvector_sync.runs.run import carry_out

    last_counts, stalled = None, False
    while True:
        if walk:
            carry_out(runtime, run_id, until=Deadline.after(ENQUEUE_FOR))
        run = find_run(runtime, run_id)
        on_progress(run)
        if not run.running:
            return run
        if timeout is not None and time.monotonic() - started >= timeout.total_seconds():
            raise TimeoutError(f"run {run_id} is still {run.state} after {timeout.total_seconds():g} s")
        counts = (run.rows_seen, run.waiting)
        if counts != last_counts:
            last_progress, last_counts, stalled = time.monotonic(), counts, False
        elif not stalled and _is_stalled(runtime, timedelta(seconds=time.monotonic() - last_progress)):
            on_silence(run)
            stalled = True
        time.sleep(POLL_EVERY.total_seconds())


def _is_stalled(runtime: Runtime, silence: timedelta) -> bool:
    return silence > STALLED_AFTER or (
        silence > STALLED_WITHOUT_WORKER_AFTER and not read_workers(runtime.database).slots
    )


def what_holds_up(runtime: Runtime, run: Run) -> str:
    """Explain why the run makes no progress, and what to do."""
    name = run.pipeline
    with runtime.database.transaction(read_only=True) as connection:
        earlier = [other.id for other in runs.list_runs(connection, pipeline=name) if _precedes(other, run)]
    [status] = read_status(runtime.database, name)
    if status.state is State.PAUSED:
        return f"{name} is paused: pgvector-sync resume {name}"
    if status.reason is not None:
        return f"{name}: {status.reason}"
    if earlier:
        return f"waiting for run {min(earlier)} to finish: see `pgvector-sync runs show {min(earlier)}`"
    alive = read_workers(runtime.database)
    if not alive.slots:
        return f"{why_no_worker(alive)}; {START_A_WORKER}"
    return "workers are running, but make no progress: see `pgvector-sync doctor`"


def _precedes(other: Run, run: Run) -> bool:
    return run.kind is other.kind is Kind.REEMBED and other.running and other.id < run.id


def find_run(runtime: Runtime, run_id: int) -> Run:
    """Return the run. Raises Refused if it doesn't exist."""
    with runtime.database.transaction(read_only=True) as connection:
        matching = runs.list_runs(connection, run_id=run_id)
    if not matching:
        raise Refused(f"run {run_id} doesn't exist", hint="pgvector-sync runs list shows the known runs")
    return matching[0]
