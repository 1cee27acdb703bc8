"""What a pipeline's status means for a person: how bad it is, in words, and what to do."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from pgvector_sync.model import State
from pgvector_sync.observe.level import Level
from pgvector_sync.observe.status import START_A_WORKER, PipelineStatus, lacks_workers, why_no_worker
from pgvector_sync.store.workers import Workers

LONG_LAG = timedelta(minutes=5)
"""How long a change may wait, while nothing in bulk is being done, before that is a warning."""
SILENT_BEAT = timedelta(minutes=2)
"""After that, beat may be gone. A tick can wait for a minute behind the batches and runs of a busy worker."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """One thing that is worth saying about a pipeline or its workers."""

    level: Level
    words: str
    advice: str | None = None
    """What to do, if anything; often a command."""


def judge(status: PipelineStatus, *, in_bulk: bool = False) -> Judgement:
    """Judge a pipeline. `in_bulk`: whether a run of it is in progress, so that rows are expected to wait."""
    name = status.name
    details = "pgvector-sync doctor"
    match status.state:
        case State.MISCONFIGURED:
            advice = f"fix it, then: pgvector-sync resume {name}; details: {details}"
            return Judgement(Level.ERROR, "misconfigured", advice)
        case State.COOLING_DOWN:
            advice = f"rows wait, and resume automatically; details: {details}"
            return Judgement(Level.WARNING, "cooling down", advice)
        case State.PAUSED:
            return Judgement(Level.WARNING, "paused", f"pgvector-sync resume {name}")
        case State.REMOVING:
            advice = f"if no command is at it: pgvector-sync remove {name}"
            return Judgement(Level.WARNING, "being removed", advice)
    words = str(status.state)
    if status.dead:
        letters = "1 dead letter" if status.dead == 1 else f"{status.dead:,} dead letters"
        return Judgement(
            Level.WARNING, words, f"{letters}: pgvector-sync dead-letters list {name}; then requeue or discard"
        )
    if not in_bulk and status.state is State.ACTIVE and status.lag is not None and status.lag > LONG_LAG:
        return Judgement(Level.WARNING, words, f"a change has waited for more than 5 minutes: {details}")
    return Judgement(Level.WARNING if status.reason else Level.OK, words)


def judge_workers(alive: Workers, statuses: Collection[PipelineStatus]) -> Judgement:
    """Judge the workers, given the pipelines that they serve."""
    if lacks_workers(tuple(statuses), alive):
        return Judgement(Level.ERROR, f"{why_no_worker(alive)}, and rows wait", START_A_WORKER)
    if not alive.alive:
        return Judgement(Level.WARNING if statuses else Level.OK, "no worker is running", START_A_WORKER)
    tick = alive.last_tick
    counted = f"{_count(alive.alive, 'worker')}, {_count(alive.slots, 'slot')}"
    if tick is None:
        return Judgement(Level.OK, f"{counted}; no beat tick yet")
    words = f"{counted}; last beat tick {tick.total_seconds():,.0f} s ago"
    if tick > SILENT_BEAT:
        return Judgement(Level.WARNING, words, "if no beat is running, start one: pgvector-sync beat")
    return Judgement(Level.OK, words)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
