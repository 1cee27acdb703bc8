"""Writes the table and the plots of docs/performance.md. What was measured is kept in benchmarks/measured.json."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from figures import Figure, Measured, as_markdown
from plot import Plot, svg

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/performance.md"
KEPT = Path(__file__).with_name("measured.json")
BEGIN, END = "<!-- written by `make bench` -->\n", "<!-- end -->"
PLOTS = {
    "waiting": Plot("Rows that wait", "SQL of one batch, in ms", logarithmic=True),
    "in-flight": Plot("Calls in flight, at 200 ms per call", "Rows per second"),
}
"""By the measure whose points are shown."""


def machine() -> str:
    """Describe this machine in words."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = models[0] if models else platform.machine()
    return f"{os.cpu_count()} cores of {processor}, {platform.system()}, Python {platform.python_version()}"


def write(measured: dict[str, Measured], order: Iterable[str]) -> None:
    """Replace the figures of these measures, and keep those of others. `order` names all measures."""
    kept = json.loads(KEPT.read_text("utf-8")) if KEPT.exists() else {}
    kept |= {name: asdict(result) for name, result in measured.items()}
    kept = {name: kept[name] for name in order if name in kept}
    KEPT.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", "utf-8")
    figures = [Figure(**figure) for result in kept.values() for figure in result["figures"]]
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    written = f"{BEGIN}\n{as_markdown(figures)}\n\nMeasured on {machine()}.\n\n{END}"
    PAGE.write_text(before + written + rest.partition(END)[2], "utf-8")
    for name, plot in PLOTS.items():
        if name in kept:
            file = PAGE.with_name("performance") / f"{name}.svg"
            file.parent.mkdir(exist_ok=True)
            file.write_text(svg(plot, [tuple(point) for point in kept[name]["points"]]), "utf-8")
