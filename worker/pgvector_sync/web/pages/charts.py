"""Charts as inline SVG, drawn on the server. Pure functions; colours and strokes are in the style sheet.

A chart is stretched to the width of its place, so all texts around it are HTML.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from markupsafe import Markup

Point = tuple[datetime, float]
WIDTH, HEIGHT = 600, 120
GAP = 2.5
"""Points that are farther apart than this many usual distances aren't connected."""


ROUND_SECONDS = (1, 2, 4, 10, 20, 40, 60, 120, 240, 600, 1200, 2400, 3600, 7200, 14_400, 28_800, 43_200, 86_400)


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with the texts around it."""

    title: str
    summary: str
    """What the chart shows, in words."""
    svg: Markup
    levels: tuple[str, str, str]
    """The labels of the vertical axis, from the top."""
    times: tuple[str, ...]
    """The labels of the horizontal axis."""


def ceiling_of(value: float) -> float:
    """Return the least of 1, 2, 4, 5, 6 and 8 times a power of ten that isn't below a value; 1 for 0."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 6, 8, 10) if step * power >= value * 0.999_999)


def seconds_ceiling(value: float) -> float:
    """Return the least round duration, in seconds, that isn't below a value."""
    return next((step for step in ROUND_SECONDS if step >= value * 0.999_999), ceiling_of(value / 86_400) * 86_400)


def chart(
    title: str,
    points: Sequence[Point],
    *,
    start: datetime,
    end: datetime,
    label: Callable[[float], str],
    ceiling: Callable[[float], float] = ceiling_of,
    filled: bool = True,
) -> Chart:
    """Draw the points between two times.

    label: how a value is written.
    ceiling: returns the end of the vertical axis for the highest value.
    filled: whether the area below the line is filled.
    """
    points = sorted((at, value) for at, value in points if start <= at <= end and math.isfinite(value))
    top = ceiling(max((value for _, value in points), default=0.0))
    span = (end - start) or timedelta(seconds=1)
    places = [
        (WIDTH * ((at - start) / span), HEIGHT * (1 - min(max(value / top, 0.0), 1.0))) for at, value in points
    ]
    grid = Markup("").join(
        Markup('<path class="grid" d="M0 {0:g}H{1}"/>').format(HEIGHT * share, WIDTH) for share in (0, 0.5, 1)
    )
    runs = list(_connected(points, places))
    area = Markup("").join(
        Markup('<path class="area" d="M{0:.1f} {1}L{2}L{3:.1f} {1}Z"/>').format(
            run[0][0], HEIGHT, _path(run), run[-1][0]
        )
        for run in runs
        if filled and len(run) > 1
    )
    # a point by itself is a short line
    lines = Markup("").join(
        Markup('<path class="line" d="M{0}"/>').format(_path(run if len(run) > 1 else [run[0], run[0]]))
        for run in runs
    )
    svg = Markup(
        '<svg class="chart" viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" '
        'aria-label="{label}">{grid}{area}{lines}{hits}</svg>'
    ).format(
        width=WIDTH,
        height=HEIGHT,
        label=f"{title}. {_summary(points, label)}",
        grid=grid,
        area=area,
        lines=lines,
        hits=_hits(points, places, label),
    )
    levels = (label(top), label(top / 2), label(0))
    return Chart(title, _summary(points, label), svg, levels, _times(start, end))


def _connected(
    points: Sequence[Point], places: Sequence[tuple[float, float]]
) -> Iterator[list[tuple[float, float]]]:
    """Group the places that are drawn as one line: where nothing was recorded, there is a gap."""
    distances = sorted(after[0] - before[0] for before, after in itertools.pairwise(points))
    usual = distances[len(distances) // 2] if distances else timedelta(0)
    group: list[tuple[float, float]] = []
    for index, place in enumerate(places):
        if group and points[index][0] - points[index - 1][0] > usual * GAP:
            yield group
            group = []
        group.append(place)
    if group:
        yield group


def _path(run: Sequence[tuple[float, float]]) -> str:
    return "L".join(f"{x:.1f} {y:.1f}" for x, y in run)


def _hits(points: Sequence[Point], places: Sequence[tuple[float, float]], label: Callable[[float], str]) -> Markup:
    """Draw an invisible column per point, whose title is its time and value."""
    columns = []
    for index, (at, value) in enumerate(points):
        left = 0.0 if index == 0 else (places[index - 1][0] + places[index][0]) / 2
        right = WIDTH if index == len(points) - 1 else (places[index][0] + places[index + 1][0]) / 2
        columns.append(
            Markup('<rect x="{0:.1f}" width="{1:.1f}" height="{2}"><title>{3}: {4}</title></rect>').format(
                left, max(right - left, 0.1), HEIGHT, f"{at:%H:%M}", label(value)
            )
        )
    return Markup('<g class="hits">{0}</g>').format(Markup("").join(columns))


def _summary(points: Sequence[Point], label: Callable[[float], str]) -> str:
    if not points:
        return "Nothing recorded."
    at, highest = max(points, key=lambda point: point[1])
    return f"Now {label(points[-1][1])}; highest {label(highest)} at {at:%H:%M} UTC."


def _times(start: datetime, end: datetime) -> tuple[str, ...]:
    form = "%a %H:%M" if end - start > timedelta(hours=30) else "%H:%M"
    return tuple((start + (end - start) * share / 4).strftime(form) for share in range(5))


def sparkline(points: Sequence[Point], text: str, *, start: datetime, end: datetime, least: float) -> Markup:
    """Draw a small line without axes, whose height is the highest value, but at least `least`.

    text: what it shows, in words.
    """
    points = sorted((at, value) for at, value in points if start <= at <= end)
    top = max([*(value for _, value in points), least])
    places = [(96 * ((at - start) / (end - start)), 19 - 18 * (value / top)) for at, value in points]
    lines = Markup("").join(
        Markup('<path class="line" d="M{0}"/>').format(_path(run if len(run) > 1 else [run[0], run[0]]))
        for run in _connected(points, places)
    )
    return Markup(
        '<svg class="spark" viewBox="0 0 96 20" width="96" height="20" preserveAspectRatio="none" role="img" '
        'aria-label="{0}">{1}</svg>'
    ).format(text, lines)


def bar(share: float, text: str, look: str) -> Markup:
    """Draw a bar whose filled part is a share of it. `text` says what it shows."""
    filled = min(max(share, 0.0), 1.0) * 100
    if 0 < filled < 100:
        filled = min(max(filled, 1.5), 98.5)  # neither a full nor an empty bar looks like one that isn't
    return Markup(
        '<svg class="bar" viewBox="0 0 100 8" width="100%" height="8" preserveAspectRatio="none" role="img" '
        'aria-label="{0}"><rect class="rest" width="100" height="8"/>'
        '<rect class="{1}" width="{2:.1f}" height="8"/></svg>'
    ).format(text, look, filled)
