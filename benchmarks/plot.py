"""Draws a line through points, as an SVG that fits light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 70, 40, 16, 48
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#555}"
    ".grid{stroke:#888;stroke-opacity:.3}"
    ".line{fill:none;stroke:#2a78c8;stroke-width:2}"
    ".point{fill:#2a78c8}"
    "@media (prefers-color-scheme:dark){text{fill:#bbb}}"
)


@dataclass(frozen=True)
class Plot:
    """The labels of the axes. A logarithmic plot has a logarithmic x axis; y begins at zero."""

    x: str
    y: str
    logarithmic: bool = False


def svg(plot: Plot, points: Sequence[tuple[float, float]]) -> str:
    """Return the picture."""
    step = _step(max(y for _, y in points))
    top = step * math.ceil(max(y for _, y in points) * 1.05 / step)
    first, last = (math.log10(x) if plot.logarithmic else x for x in (points[0][0], points[-1][0]))
    if not plot.logarithmic:
        first = 0

    def across(x: float) -> float:
        value = math.log10(x) if plot.logarithmic else x
        return LEFT + (value - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def down(y: float) -> float:
        return HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)

    parts = [f"<title>{escape(plot.y)} by {escape(plot.x.lower())}</title>", f"<style>{STYLE}</style>"]
    for number in range(round(top / step) + 1):
        y = down(number * step)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{number * step:,g}</text>')
    for x, _ in points:
        parts.append(f'<text x="{across(x):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{x:,.0f}</text>')
    path = "L".join(f"{across(x):.1f} {down(y):.1f}" for x, y in points)
    parts.append(f'<path class="line" d="M{path}"/>')
    parts += [f'<circle class="point" cx="{across(x):.1f}" cy="{down(y):.1f}" r="4"/>' for x, y in points]
    center, middle = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text x="{center}" y="{HEIGHT - 8}" text-anchor="middle">{escape(plot.x)}</text>')
    parts.append(
        f'<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">{escape(plot.y)}</text>'
    )
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n' + "\n".join(parts) + "\n</svg>\n"


def _step(most: float) -> float:
    """Return a round distance of grid lines, of which about five fit below `most`."""
    size = 10 ** math.floor(math.log10(most))
    return next(size * part for part in (0.2, 0.5, 1, 2) if most / (size * part) <= 6)
