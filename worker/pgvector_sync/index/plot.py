"""A plot of recall against latency as an SVG file of its own. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import timedelta
from xml.sax.saxutils import escape

from pgvector_sync.index.recall.report import ITERATIVE, Iterative, RecallReport, SettingResult

WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 92, 52
"""The margins around the axes."""
COLOURS: dict[Iterative, str] = {"off": "#2563a8", "strict_order": "#c2410c", "relaxed_order": "#15803d"}
LABELS: dict[Iterative, str] = {
    "off": "no iterative scan",
    "strict_order": "strict_order",
    "relaxed_order": "relaxed_order",
}
MAX_CHARACTERS = 95
"""The length of the line below the title."""
_CHARACTER = 6.5
"""The width of a character of a label."""
_RADIUS = 3.5
"""The radius of a point."""
_Box = tuple[float, float, float, float]
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#374151}.title{font-size:15px;font-weight:600;fill:#111827}"
    ".grid{stroke:#e5e7eb}.target{stroke:#6b7280;stroke-dasharray:5 4}.line{fill:none;stroke-width:1.5}"
    ".bar{stroke-width:1;opacity:.5}.label{font-size:11px}"
)


def recall_plot(report: RecallReport) -> str:
    """Draw each setting as a point, with the interval of its recall, and the target as a line."""
    scale = _Scale(report)
    shown = [mode for mode in ITERATIVE if any(each.iterative == mode for each in report.settings)]
    title = escape(_title(report), {'"': "&quot;"})
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text class="title" x="{LEFT}" y="26">{title}</text>',
        f'<text x="{LEFT}" y="46">{escape(_subtitle(report))}</text>',
        *_legend(shown),
        *_axes(scale, report),
    ]
    taken = [_point(scale, each) for each in report.settings]
    for mode in shown:
        parts += _series(scale, [each for each in report.settings if each.iterative == mode], mode, taken)
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Scale:
    """Where a latency and a recall are in the picture. Latencies are on a logarithmic axis."""

    def __init__(self, report: RecallReport) -> None:
        times = [_milliseconds(each.p50) for each in report.settings]
        self.first, self.last = min(times) / 1.3, max(times) * 1.3
        lowest = min([report.target, *(each.low for each in report.settings)])
        step = 0.05 if lowest >= 0.75 else 0.1
        self.step = 0.01 if lowest >= 0.95 else step
        self.lowest = max(0.0, math.floor(lowest / self.step - 1e-9) * self.step)

    def x(self, milliseconds: float) -> float:
        share = math.log(milliseconds / self.first) / math.log(self.last / self.first)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, recall: float) -> float:
        return TOP + (1 - recall) / (1 - self.lowest) * (HEIGHT - TOP - BOTTOM)

    def times(self) -> Iterator[float]:
        """Return round latencies."""
        power = 10.0 ** math.floor(math.log10(self.first))
        while power <= self.last:
            yield from (each for each in (power, 2 * power, 5 * power) if self.first <= each <= self.last)
            power *= 10

    def recalls(self) -> Iterator[float]:
        for number in range(round((1 - self.lowest) / self.step) + 1):
            yield 1 - number * self.step


def _title(report: RecallReport) -> str:
    return f"{report.pipeline}: recall@{report.k} of {report.index.name}"


def _subtitle(report: RecallReport) -> str:
    where = "" if report.where is None else f" where {' '.join(report.where.split())}"
    text = f"{report.settings[0].queries:,} queries, {report.rows:,} vectors{where}"
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "…"


def _legend(shown: Sequence[Iterative]) -> Iterator[str]:
    x = float(LEFT)
    for mode in shown:
        yield f'<circle cx="{x + 5:g}" cy="66" r="4" fill="{COLOURS[mode]}"/>'
        yield f'<text x="{x + 15:g}" y="70">{LABELS[mode]}</text>'
        x += 40 + _CHARACTER * len(LABELS[mode])


def _axes(scale: _Scale, report: RecallReport) -> Iterator[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    for recall in scale.recalls():
        y = scale.y(recall)
        yield f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{recall:.2f}</text>'
    for time in scale.times():
        x = scale.x(time)
        yield f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{time:g}</text>'
    unit = f"median latency in ms; the numbers are {report.settings[0].name}"
    yield f'<text x="{(LEFT + right) / 2:g}" y="{HEIGHT - 12}" text-anchor="middle">{unit}</text>'
    y = scale.y(report.target)
    yield f'<path class="target" d="M{LEFT} {y:.1f}H{right}"/>'
    yield f'<text x="{LEFT + 6}" y="{y - 5:.1f}">target {report.target:g}</text>'


def _series(
    scale: _Scale,
    results: Sequence[SettingResult],
    mode: Iterative,
    taken: list[_Box],
) -> Iterator[str]:
    colour = COLOURS[mode]
    places = [(scale.x(_milliseconds(each.p50)), scale.y(each.recall_mean)) for each in results]
    yield f'<path class="line" stroke="{colour}" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in places)}"/>'
    for result, (x, y) in zip(results, places, strict=True):
        low, high = scale.y(result.low), scale.y(result.high)
        yield f'<path class="bar" stroke="{colour}" d="M{x:.1f} {low:.1f}V{high:.1f}"/>'
        yield (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS}" fill="{colour}"><title>'
            f"{result.name} = {result.value}, {LABELS[mode]}: recall {result.recall_mean:.3f} "
            f"({result.low:.3f} to {result.high:.3f}), {_milliseconds(result.p50):.2f} ms</title></circle>"
        )
        yield from _label(x, y, str(result.value), colour, taken)


def _point(scale: _Scale, result: SettingResult) -> _Box:
    x, y = scale.x(_milliseconds(result.p50)), scale.y(result.recall_mean)
    return x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS


def _label(x: float, y: float, text: str, colour: str, taken: list[_Box]) -> Iterator[str]:
    """Write a value beside its point, unless others are in each place."""
    width = _CHARACTER * len(text)
    for left, top in ((x + 6, y + 4), (x + 6, y + 16), (x - width - 6, y - 16), (x - width - 6, y + 4)):
        box = left, top, left + width, top + 12
        apart = (box[0] >= b[2] or box[2] <= b[0] or box[1] >= b[3] or box[3] <= b[1] for b in taken)
        if all(apart) and box[2] <= WIDTH:
            taken.append(box)
            yield f'<text class="label" x="{left:.1f}" y="{top + 10:.1f}" style="fill:{colour}">{text}</text>'
            return


def _milliseconds(duration: timedelta) -> float:
    return max(duration / timedelta(milliseconds=1), 0.001)
