"""Lines of a given width, bars and small charts, with and without Unicode. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from pgvector_sync.observe.level import Level
from pgvector_sync.telemetry.printable import printable

BAR_CELLS = 10
LONGEST_TEXT_LINES = 4
"""Lines of one text; the rest is left out, so that one pipeline doesn't hide the others."""


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters to draw with. The marks differ in shape, not only in colour."""

    marks: Mapping[Level, str]
    full: str
    empty: str
    steps: str
    more: str
    arrow: str


UNICODE = Glyphs({Level.OK: "●", Level.WARNING: "▲", Level.ERROR: "✗"}, "█", "░", "▁▂▃▄▅▆▇█", "…", "→")
ASCII = Glyphs({Level.OK: "+", Level.WARNING: "!", Level.ERROR: "x"}, "#", ".", "_.-=*#", "~", "->")


@dataclass(frozen=True, slots=True)
class Canvas:
    """The width of the terminal, and the characters that it can show."""

    width: int
    glyphs: Glyphs = UNICODE

    def bar(self, share: float) -> str:
        """Draw a share as a bar, which is full only if all is done, and empty only if nothing is."""
        full = int(share * BAR_CELLS) or (1 if share > 0 else 0)
        return self.glyphs.full * full + self.glyphs.empty * (BAR_CELLS - full)

    def chart(self, values: Sequence[float]) -> str:
        """Draw values as a row of steps, of which the highest stands for the largest value."""
        most = max(values, default=0.0)
        last = len(self.glyphs.steps) - 1
        return "".join(
            self.glyphs.steps[round(max(value, 0.0) / most * last) if most > 0 else 0] for value in values
        )

    def cell(self, text: str, width: int, *, left: bool) -> str:
        """Return a text that is exactly `width` cells wide."""
        text = self.clipped(text, width)
        room = " " * (width - cell_len(text))
        return text + room if left else room + text

    def clipped(self, text: str, width: int | None = None) -> str:
        """Shorten a text that is wider than `width` (default: than the canvas), and show that it was."""
        width = self.width if width is None else width
        return text if cell_len(text) <= width else set_cell_size(text, max(width - 1, 0)) + self.glyphs.more

    def wrapped(self, text: str, *, indent: int = 0, style: str = "") -> list[Text]:
        """Break a text into lines at spaces, and within a word that is wider than the canvas."""
        room, lines, line = max(self.width - indent, 2), [], ""
        for word in printable(text).split(" "):
            if line and cell_len(line) + 1 + cell_len(word) > room:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}" if line else word
            while cell_len(line) > room:
                head = set_cell_size(line, room).rstrip()
                lines.append(head)
                line = line[max(len(head), 1) :]
        lines.append(line)
        if len(lines) > LONGEST_TEXT_LINES:
            lines[LONGEST_TEXT_LINES - 1 :] = [self.clipped(" ".join(lines[LONGEST_TEXT_LINES - 1 :]), room)]
        return [Text(" " * indent + each, style) for each in lines]
