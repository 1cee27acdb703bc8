"""The calls of a provider that one batch has made, for metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

OK = "ok"


@dataclass(slots=True)
class Calls:
    """Collects calls in the order in which they end. Threads may share it."""

    made: list[tuple[str, float]] = field(default_factory=list)
    """(`ok` or the name of the failure's class, seconds until the answer or the failure)."""

    def note(self, outcome: str, took: timedelta) -> None:
        self.made.append((outcome, took.total_seconds()))
