"""Waiting for a run, and carrying it on meanwhile: a command that waits needs no worker for the walk itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import timedelta

from pgvector_sync.errors import Refused
from pgvector_sync.model import State
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.model.request import Kind
from pgvector_sync.observe.status import START_ONE, nobody, read_status, read_workers
from pgvector_sync.runs.run import carry_out
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import pipelines, runs
from pgvector_sync.store.runs import Run

LOOK_EVERY = timedelta(milliseconds=200)
WALK_FOR = timedelta(seconds=2)
"""Between two looks: its pages grow from small ones each time."""
SILENCE = timedelta(seconds=15)
"""Without any progress for so long, something is in the way."""
NOBODY = timedelta(seconds=3)
"""The same where no worker is running: one that was just started has noted so by then."""


def refuse_to_wait_for_paused(runtime: Runtime, names: Iterable[str]) -> None:
    """Before anything is asked for. Raises Refused."""
    with runtime.database.transaction(read_only=True) as connection:
        for name in names:
            if pipelines.require_pipeline(connection, name).state is State.PAUSED:
                raise Refused(f"{name} is paused", hint=f"pgvector-sync resume {name}; nothing was asked for")


def wait_for(
    runtime: Runtime,
    run_id: int,
    *,
    on_progress: Callable[[Run], None],
    on_silence: Callable[[Run], None] = lambda _: None,
    timeout: timedelta | None = None,
    walk: bool = True,
) -> Run:
    """The run, once it has ended. Workers embed what it enqueues: `on_silence` is told once if none does.

    `walk`: its rows are enqueued here meanwhile. Raises TimeoutError after `timeout`.
    """
    started = heard = time.monotonic()
    last, silent = None, False
    while True:
        if walk:
            carry_out(runtime, run_id, until=Deadline.after(WALK_FOR))
        run = find_run(runtime, run_id)
        on_progress(run)
        if not run.running:
            return run
        if timeout is not None and time.monotonic() - started >= timeout.total_seconds():
            raise TimeoutError(f"run {run_id} is still {run.state} after {timeout.total_seconds():g} s")
        now = (run.rows_seen, run.waiting)
        if now != last:
            heard, last, silent = time.monotonic(), now, False
        elif not silent and _is_too_long(runtime, timedelta(seconds=time.monotonic() - heard)):
            on_silence(run)
            silent = True
        time.sleep(LOOK_EVERY.total_seconds())


def _is_too_long(runtime: Runtime, silence: timedelta) -> bool:
    return silence > SILENCE or (silence > NOBODY and not read_workers(runtime.database).slots)


def what_holds_up(runtime: Runtime, run: Run) -> str:
    """Why a run that waits makes no progress, and what to do."""
    name = run.pipeline
    with runtime.database.transaction(read_only=True) as connection:
        earlier = [other.id for other in runs.list_runs(connection, pipeline=name) if _goes_first(other, run)]
    [status] = read_status(runtime.database, name)
    if status.state is State.PAUSED:
        return f"{name} is paused: pgvector-sync resume {name}"
    if status.reason is not None:
        return f"{name}: {status.reason}"
    if earlier:
        return f"run {min(earlier)} goes first: see `pgvector-sync runs show {min(earlier)}`"
    alive = read_workers(runtime.database)
    if not alive.slots:
        return f"{nobody(alive)}; {START_ONE}"
    return "the workers that are running make no progress: see `pgvector-sync doctor`"


def _goes_first(other: Run, run: Run) -> bool:
    return run.kind is other.kind is Kind.REEMBED and other.running and other.id < run.id


def find_run(runtime: Runtime, run_id: int) -> Run:
    """Raises Refused where there is none."""
    with runtime.database.transaction(read_only=True) as connection:
        found = runs.list_runs(connection, run_id=run_id)
    if not found:
        raise Refused(f"there is no run {run_id}", hint="see `pgvector-sync runs list`")
    return found[0]
