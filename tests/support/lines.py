"""The lines of the log, as objects."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pgvector_sync.telemetry.lines import formatter

Line = dict[str, Any]


def lines_in(printed: str) -> list[Line]:
    """The lines of the log in what a process has printed, which logs JSON."""
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(formatter("json"))
        self.lines: list[Line] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


@contextmanager
def logged(monkeypatch: Any, level: str = "DEBUG") -> Iterator[list[Line]]:
    """The lines of this process from now on, ours and those of libraries, as `configure_logging` would form them."""
    kept, root = _Kept(), logging.getLogger()
    monkeypatch.setattr("pgvector_sync.telemetry.log._handlers", [kept])
    before = root.level
    root.addHandler(kept)
    root.setLevel(level)
    try:
        yield kept.lines
    finally:
        root.removeHandler(kept)
        root.setLevel(before)
