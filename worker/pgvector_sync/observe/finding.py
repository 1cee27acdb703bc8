"""What a check or a page has found: how bad it is, what was seen, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

from pgvector_sync.observe.level import Level


@dataclass(frozen=True, slots=True)
class Finding:
    level: Level
    seen: str
    advice: str | None = None
    """The statement or command that fixes it."""


def ok(seen: str, remark: str | None = None) -> Finding:
    return Finding(Level.OK, seen, remark)


def warning(seen: str, advice: str) -> Finding:
    return Finding(Level.WARNING, seen, advice)


def error(seen: str, advice: str) -> Finding:
    return Finding(Level.ERROR, seen, advice)


@dataclass(frozen=True, slots=True)
class Check:
    """One entry of `doctor --json`; docs/doctor.md lists the names."""

    name: str
    level: Level
    seen: str
    advice: str | None
    pipeline: str | None
    """None if the check isn't about one pipeline."""
