"""What `make bench` prints: figures, each with what it was and what it is meant to reach."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """One measured value."""

    what: str
    value: float
    unit: str = ""
    before: str = ""
    """What it was when the work on speed began."""
    reach: float | None = None
    more_is_better: bool = False
    beside: str = ""
    """What was measured in the same run for comparison."""

    @property
    def verdict(self) -> str:
        if self.reach is None:
            return ""
        reached = self.value >= self.reach if self.more_is_better else self.value <= self.reach
        return "reached" if reached else "missed"


@dataclass(frozen=True)
class Measured:
    """The result of one measure."""

    figures: list[Figure]
    points: list[tuple[float, float]] = field(default_factory=list)
    """What is plotted: (x, y)."""


HEADINGS = ("Measure", "Before", "Now", "To reach", "", "Beside it, in the same run")


def cells(figure: Figure) -> tuple[str, ...]:
    value, reach = (shown(number, figure.unit) for number in (figure.value, figure.reach))
    return figure.what, figure.before, value, reach, figure.verdict, figure.beside


def shown(number: float | None, unit: str) -> str:
    """Return a number with three significant digits and its unit."""
    if number is None:
        return ""
    size = abs(number)
    text = f"{number:,.0f}" if size >= 100 else f"{number:.1f}" if size >= 10 else f"{number:.2f}"
    return f"{text} {unit}".rstrip()


def as_text(figures: Iterable[Figure]) -> str:
    """Return a table for a terminal."""
    rows = [HEADINGS, *map(cells, figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return "\n".join("  ".join(map(_aligned, row, widths, range(len(row)))).rstrip() for row in rows)


def _aligned(text: str, width: int, column: int) -> str:
    return text.rjust(width) if column in (1, 2, 3) else text.ljust(width)


def as_markdown(figures: Iterable[Figure]) -> str:
    """Return a table for a page of the documentation, which says what is and not what was before."""
    rows = [
        ("Measure", "Value", "Goal", "", "Beside it, in the same run"),
        ("---", "---:", "---:", "---", "---"),
        *((what, *rest) for what, _before, *rest in map(cells, figures)),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
