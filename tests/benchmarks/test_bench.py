"""What `make bench` and `make bench-check` do with what they have measured. Measuring itself isn't tested."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The modules of `benchmarks`, which isn't a package."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import check
    import figures
    import page
    import plot

    for name in ("check", "figures", "page", "plot"):
        monkeypatch.delitem(sys.modules, name)
    return SimpleNamespace(check=check, figures=figures, page=page, plot=plot)


@pytest.mark.parametrize(("measured", "worse"), [(8.0, False), (10.0, False), (11.4, False), (11.6, True)])
def test_a_figure_may_be_15_percent_above_the_recorded_one(bench, measured, worse) -> None:
    assert bench.check.regressions({"round trips": 10.0}, {"round trips": measured}) == ["round trips"] * worse


def test_a_figure_that_is_not_recorded_fails(bench) -> None:
    assert bench.check.regressions({}, {"round trips": 0.1}) == ["round trips"]


def test_the_recorded_figures_are_those_that_are_measured(bench) -> None:
    recorded = json.loads(bench.check.RECORDED.read_text())
    assert set(recorded) == set(bench.check.FIGURES)


def test_a_figure_is_reached_in_its_own_direction(bench) -> None:
    figure = bench.figures.Figure
    assert figure("speed", 0.4, reach=0.35, more_is_better=True).verdict == "reached"
    assert figure("speed", 0.3, reach=0.35, more_is_better=True).verdict == "missed"
    assert figure("time", 0.3, reach=0.35).verdict == "reached"
    assert figure("time", 0.3).verdict == ""


def test_the_page_keeps_the_figures_of_measures_that_did_not_run(bench, tmp_path, monkeypatch) -> None:
    shown = tmp_path / "performance.md"
    shown.write_text(f"before\n{bench.page.BEGIN}old\n{bench.page.END}\nafter\n")
    monkeypatch.setattr(bench.page, "PAGE", shown)
    monkeypatch.setattr(bench.page, "KEPT", tmp_path / "measured.json")
    figure, measured = bench.figures.Figure, bench.figures.Measured
    bench.page.write({"lag": measured([figure("lag", 55, "ms", "91 ms", 60)])}, ("lag", "waiting"))
    bench.page.write(
        {"waiting": measured([figure("batch", 1.234, "times")], [(10_000, 14.0), (1_000_000, 16.0)])},
        ("lag", "waiting"),
    )
    text = shown.read_text()
    assert "| lag | 55.0 ms | 60.0 ms | reached |  |\n| batch | 1.23 times |" in text
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    picture = ET.fromstring((tmp_path / "performance/waiting.svg").read_text())
    assert len(picture.findall("{*}circle")) == 2


def test_the_committed_page_shows_every_figure_that_is_kept(bench) -> None:
    kept = json.loads(bench.page.KEPT.read_text("utf-8"))
    figures = [bench.figures.Figure(**figure) for result in kept.values() for figure in result["figures"]]
    assert bench.figures.as_markdown(figures) in bench.page.PAGE.read_text("utf-8")
