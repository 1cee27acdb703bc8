"""What `status --watch` shows on a terminal, as lines of a given number and width. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from rich.cells import cell_len
from rich.text import Text

from pgvector_sync.cli.watch.canvas import Canvas
from pgvector_sync.cli.watch.words import count, coverage, percent, progress, span
from pgvector_sync.model.progress import Progress
from pgvector_sync.observe.finding import Check
from pgvector_sync.observe.level import Level
from pgvector_sync.observe.live import Look
from pgvector_sync.observe.status import PipelineStatus
from pgvector_sync.observe.todo import worst
from pgvector_sync.telemetry.printable import printable

STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "bold red"}
GAP = "  "
NARROWEST_NAME = 8
Judged = tuple[PipelineStatus, list[Check]]


@dataclass(frozen=True, slots=True)
class Scene:
    """All that a picture depends on, besides the size of the terminal."""

    look: Look
    read_at: datetime
    every: timedelta
    speeds: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Rows per second at the last looks, by pipeline."""
    earlier: Mapping[int, Progress] = field(default_factory=dict)
    """Running runs at an earlier look, by id: the time left follows from their speed since then."""
    trouble: str | None = None
    """Why the look isn't current."""
    age: timedelta = timedelta()
    """How old the look is, if it isn't current."""


def picture(scene: Scene, canvas: Canvas, *, height: int) -> list[Text]:
    """Return the picture: at most `height` lines, none of them wider than the canvas.

    If not all pipelines fit, the worst are shown, and how many others there are.
    """
    lines = [*_head(scene, canvas), Text()]
    judged = scene.look.worst_first()
    if not judged:
        hint = "no pipelines yet: propose one with `pgvector-sync init`, then run `pgvector-sync apply`"
        return [*lines, *canvas.wrapped(hint)][:height]
    columns = _fitting(_columns(scene, canvas), judged, canvas)
    titles = (canvas.cell(column.title, column.width, left=column.left) for column in columns)
    lines.append(Text(canvas.clipped(GAP.join(titles).rstrip()), "bold"))
    blocks = [_block(scene, item, columns, canvas) for item in judged]
    shown = _number_that_fit([len(block) for block in blocks], height - len(lines))
    lines += [line for block in blocks[:shown] for line in block]
    if hidden := judged[shown:]:
        lines[height - 1 :] = [Text(canvas.clipped(f"and {len(hidden):,} more: {_summary(hidden)}"), "dim")]
    return lines[:height]


def _head(scene: Scene, canvas: Canvas) -> list[Text]:
    glyphs = canvas.glyphs
    title, keys = f"pgvector-sync  {scene.read_at:%H:%M:%S}", f"every {scene.every.total_seconds():g} s, q quits"
    gap = canvas.width - cell_len(title) - cell_len(keys)
    lines = [Text(canvas.clipped(title), "bold")]
    if gap > 2:
        lines[0].append(" " * gap + keys, "not bold dim")
    if scene.trouble is not None:
        text = f"{glyphs.marks[Level.ERROR]} {scene.trouble}; these figures are {span(scene.age)} old"
        lines += canvas.wrapped(text, style=STYLES[Level.ERROR])
    workers = scene.look.state_of_workers()
    level = worst(workers)
    style = "" if level is Level.OK else STYLES[level]
    lines += canvas.wrapped(f"{glyphs.marks[level]} {'; '.join(check.seen for check in workers)}", style=style)
    for check in workers:
        if check.advice:
            lines += canvas.wrapped(f"{glyphs.arrow} {check.advice}", indent=2)
    return lines


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    text: Callable[[PipelineStatus, list[Check]], str]
    rank: int
    """On a narrow terminal, the columns of the highest rank are left out first."""
    left: bool = False
    width: int = 0


def _columns(scene: Scene, canvas: Canvas) -> list[_Column]:
    def covered(status: PipelineStatus, show: Callable[[float], str]) -> str:
        share = coverage(status)
        return "" if share is None else show(share)

    return [
        _Column(
            "  pipeline", lambda s, todo: f"{canvas.glyphs.marks[worst(todo)]} {printable(s.name)}", 0, left=True
        ),
        _Column("state", lambda s, _: s.state.words, 0, left=True),
        _Column("fresh", lambda s, _: covered(s, percent), 3),
        _Column("", lambda s, _: covered(s, canvas.bar), 6, left=True),
        _Column("lag", lambda s, _: "" if s.lag is None else span(s.lag), 1),
        _Column("waiting", lambda s, _: count(s, "waiting"), 1),
        _Column("in flight", lambda s, _: f"{s.in_flight:,}", 5),
        _Column("dead", lambda s, _: f"{s.dead:,}", 2),
        _Column("rows/s", lambda s, _: f"{s.rows_per_second:,.1f}", 4),
        _Column("", lambda s, _: canvas.chart(scene.speeds.get(s.name, ())), 7, left=True),
    ]


def _fitting(columns: Sequence[_Column], judged: Sequence[Judged], canvas: Canvas) -> list[_Column]:
    """Return the columns that fit, with their widths. Names are shortened if nothing else helps."""
    sized = []
    for column in columns:
        widest = max(cell_len(column.text(*item)) for item in judged)
        if widest:
            sized.append(replace(column, width=max(widest, cell_len(column.title))))
    while _width(sized) > canvas.width and max(column.rank for column in sized):
        sized.remove(max(sized, key=lambda column: column.rank))
    spare = canvas.width - _width(sized) + sized[0].width
    return [replace(sized[0], width=min(sized[0].width, max(spare, NARROWEST_NAME))), *sized[1:]]


def _width(columns: Sequence[_Column]) -> int:
    return sum(column.width for column in columns) + len(GAP) * (len(columns) - 1)


def _block(scene: Scene, judged: Judged, columns: Sequence[_Column], canvas: Canvas) -> list[Text]:
    """Return the lines of one pipeline: its figures, why it isn't green, what to do, and its runs."""
    status, todo = judged
    level = worst(todo)
    cells = [canvas.cell(column.text(*judged), column.width, left=column.left) for column in columns]
    facts = Text(canvas.clipped(GAP.join(cells).rstrip()))
    coloured = 1 if level is Level.OK else len(GAP.join(cells[:2]))
    facts.stylize(STYLES[level], 0, coloured)
    lines = [facts]
    for check in todo:
        lines += canvas.wrapped(check.seen, indent=2)
        if check.advice:
            lines += canvas.wrapped(f"{canvas.glyphs.arrow} {check.advice}", indent=2)
    for run in scene.look.runs_of(status.name):
        bar = "" if run.share is None else canvas.bar(run.share) + " "
        text = f"{run.kind} {run.id}: {bar}{progress(run, scene.earlier.get(run.id))}"
        lines += canvas.wrapped(text, indent=2, style="cyan")
    return lines


def _number_that_fit(heights: Sequence[int], room: int) -> int:
    """Return how many blocks fit, if a line is kept for the number of others. At least one is shown."""
    if sum(heights) <= room:
        return len(heights)
    used = shown = 0
    for height in heights:
        if used + height > room - 1:
            break
        used, shown = used + height, shown + 1
    return max(shown, 1)


def _summary(judged: Sequence[Judged]) -> str:
    """Count pipelines by their state."""
    return ", ".join(
        f"{number:,} {words}" for words, number in Counter(s.state.words for s, _ in judged).most_common()
    )
