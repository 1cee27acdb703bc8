"""`status --watch` where there is no terminal: a line per pipeline whenever something has changed. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from pgvector_sync.cli.watch.memory import Memory
from pgvector_sync.cli.watch.words import count, coverage, percent, progress, span
from pgvector_sync.observe.finding import Check
from pgvector_sync.observe.level import Level
from pgvector_sync.observe.live import Look
from pgvector_sync.observe.status import PipelineStatus

REPEAT_AFTER = timedelta(minutes=1)
"""After this time a line is repeated even if nothing has changed, so that a log shows that somebody looks."""


class Lines:
    """Remembers what was written about each pipeline."""

    def __init__(self) -> None:
        self._written: dict[str, tuple[str, datetime]] = {}
        self._trouble: tuple[str, datetime] | None = None

    def of(self, look: Look, memory: Memory, at: datetime) -> Iterator[str]:
        """Return the lines to write after a look. The lag and the speed alone are no reason for a line."""
        yield from self.recovery(at)
        checks = look.state_of_workers()
        facts = repr((_kinds(checks), look.workers.alive, look.workers.slots))
        yield from self._changed("", facts, f"workers: {'; '.join(map(_words, checks))}", at)
        for status in look.pipelines:
            facts = _facts(status, look)
            yield from self._changed(status.name, facts, f"{status.name}: {_line(status, look, memory)}", at)
        for name in self._written.keys() - {"", *(status.name for status in look.pipelines)}:
            del self._written[name]
            yield _stamped(at, f"{name}: no longer exists")

    def trouble(self, why: str, at: datetime) -> Iterator[str]:
        """Return the line to write if a look has failed, once per reason."""
        if self._trouble is None or self._trouble[0] != why:
            self._trouble = (why, at if self._trouble is None else self._trouble[1])
            yield _stamped(at, f"database: {why}; trying again")

    def recovery(self, at: datetime) -> Iterator[str]:
        """Return the line to write if this look has succeeded, and the one before had not."""
        if self._trouble is not None:
            yield _stamped(at, f"database: answers again after {span(at - self._trouble[1])}")
            self._trouble = None

    def _changed(self, name: str, facts: str, line: str, at: datetime) -> Iterator[str]:
        before = self._written.get(name)
        if before is None or before[0] != facts or at - before[1] >= REPEAT_AFTER:
            self._written[name] = (facts, at)
            yield _stamped(at, line)


def _stamped(at: datetime, text: str) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ} {text}"


def _facts(status: PipelineStatus, look: Look) -> str:
    """Return what must change for another line."""
    kinds = _kinds(look.todo(status))
    counts = (status.rows, status.fresh, status.waiting, status.in_flight, status.dead, status.to_backfill)
    return repr(
        (
            status.state,
            kinds,
            status.reason,
            counts,
            [(run.id, run.rows_done) for run in look.runs_of(status.name)],
        )
    )


def _line(status: PipelineStatus, look: Look, memory: Memory) -> str:
    share = coverage(status)
    figures = [] if share is None else [f"{percent(share)} fresh"]
    figures += [f"{count(status, 'waiting')} waiting", f"{status.in_flight:,} in flight", f"{status.dead:,} dead"]
    if status.lag is not None:
        figures.append(f"lag {span(status.lag)}")
    figures.append(f"{status.rows_per_second:,.1f} rows/s")
    parts = [f"{status.state.words}, {', '.join(figures)}"]
    parts += [
        f"{run.kind} {run.id}: {progress(run, memory.earlier.get(run.id))}" for run in look.runs_of(status.name)
    ]
    return "; ".join([*parts, *map(_words, look.todo(status))])


def _kinds(checks: Sequence[Check]) -> list[tuple[str, Level]]:
    return [(check.name, check.level) for check in checks]


def _words(check: Check) -> str:
    return check.seen + (f" → {check.advice}" if check.advice else "")
