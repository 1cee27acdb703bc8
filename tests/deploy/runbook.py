"""Reads docs/runbook.md: its sections, the commands in them, and what these are to print."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/runbook.md"
_BLOCK = re.compile(
    r"(?:^ *<!-- (?P<mark>[^>]+?) -->\n)?^ *```bash\n(?P<body>.*?)^ *```\n(?:\n *```text\n(?P<output>.*?)^ *```\n)?",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Command:
    mark: str
    """What happens before it, or why it isn't run."""
    body: str
    output: str
    """What it prints, shortened: `…` stands for any text, and a number for any number."""


def sections(page: str) -> dict[str, str]:
    """The text below each heading of the second and third level, without that below the next."""
    parts = re.split(r"^#{2,3} (.+)$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def commands(section: str) -> list[Command]:
    return [
        Command(found["mark"] or "", found["body"].strip(), found["output"] or "")
        for found in _BLOCK.finditer(section)
    ]


def missing(expected: str, printed: str) -> str | None:
    """The first expected line that isn't in what was printed, after those before it."""
    place = 0
    for line in expected.splitlines():
        if line.strip() in {"", "…"}:
            continue
        found = re.compile(_pattern(line)).search(printed, place)
        if found is None:
            return line
        place = found.end()
    return None


def _pattern(line: str) -> str:
    pieces = re.split(r"(…|\d[\d,.:-]*|\s+)", line.strip())
    return "".join(
        ".*"
        if piece == "…"
        else r"\d[\d,.:-]*"
        if piece[:1].isdigit()
        else r"[^\S\n]+"
        if piece.isspace()
        else re.escape(piece)
        for piece in pieces
    )
