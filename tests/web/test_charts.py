"""Charts: what is drawn for which values."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest

from pgvector_sync.web.pages.charts import bar, ceiling_of, chart, seconds_ceiling, sparkline

END = datetime(2026, 11, 27, 12, tzinfo=UTC)
START = END - timedelta(hours=24)


def drawn(values, **how):
    """A chart with one point per hour; None stands for an hour in which nothing was recorded."""
    points = [(START + timedelta(hours=n), value) for n, value in enumerate(values) if value is not None]
    return chart("Lag", points, start=START, end=END, label=lambda value: f"{value:g} s", **how)


def lines(svg):
    return re.findall(r'class="line" d="M([^"]*)"', svg)


@pytest.mark.parametrize(
    ("value", "ceiling"), [(0, 1), (0.3, 0.4), (1, 1), (1.01, 2), (7, 8), (9, 10), (1234, 2000)]
)
def test_an_axis_ends_at_the_next_round_number(value, ceiling):
    assert ceiling_of(value) == pytest.approx(ceiling)


@pytest.mark.parametrize(("value", "ceiling"), [(0, 1), (61, 120), (1500, 2400), (90_000, 172_800)])
def test_an_axis_of_durations_ends_at_a_round_duration(value, ceiling):
    assert seconds_ceiling(value) == ceiling


def test_the_highest_value_is_at_the_top_and_zero_at_the_bottom():
    [line] = lines(drawn([0, 10, 0]).svg)
    assert line == "0.0 120.0L25.0 0.0L50.0 120.0"


def test_a_gap_in_the_records_is_a_gap_in_the_line():
    assert len(lines(drawn([1, 1, 1, None, None, None, 1, 1]).svg)) == 2


def test_a_single_point_is_visible():
    [line] = lines(drawn([3]).svg)
    assert line == "0.0 30.0L0.0 30.0"


def test_a_chart_says_in_words_what_it_shows():
    shown = drawn([1, 12, 3])
    assert shown.summary == "Now 3 s; highest 12 s at 13:00 UTC."
    assert 'role="img" aria-label="Lag. Now 3 s; highest 12 s at 13:00 UTC."' in shown.svg


def test_a_chart_without_points_says_so():
    shown = drawn([])
    assert shown.summary == "Nothing recorded."
    assert lines(shown.svg) == []


def test_points_outside_the_range_and_infinite_ones_are_left_out():
    shown = chart(
        "x", [(START - timedelta(hours=1), 99), (END, float("inf")), (END, 1)], start=START, end=END, label=str
    )
    assert shown.summary == "Now 1; highest 1 at 12:00 UTC."


@pytest.mark.parametrize("title", ["<script>alert(1)</script>", '" onload="x', "a & b"])
def test_text_in_a_chart_is_escaped(title):
    svg = chart(title, [(END, 1.0)], start=START, end=END, label=lambda _: title).svg
    root = ET.fromstring(svg)
    assert root.get("aria-label").startswith(title)
    assert {element.tag for element in root.iter()} <= {"svg", "path", "g", "rect", "title"}


@pytest.mark.parametrize(
    "svg",
    [bar(0.5, "half", "good"), sparkline([(END, 1.0)], "lag", start=START, end=END, least=1), drawn([1, 2]).svg],
)
def test_no_picture_has_a_style_that_a_strict_policy_would_block(svg):
    assert "style" not in svg


@pytest.mark.parametrize(
    ("share", "width"), [(0, "0.0"), (0.0001, "1.5"), (0.5, "50.0"), (0.9999, "98.5"), (1, "100.0")]
)
def test_a_bar_is_full_or_empty_only_if_its_share_is(share, width):
    assert f'class="good" width="{width}"' in bar(share, "rows", "good")


def test_a_quiet_pipeline_has_a_flat_line():
    points = [(START, 0.2), (END, 0.6)]
    assert lines(sparkline(points, "lag", start=START, end=END, least=60)) == ["0.0 18.9L96.0 18.8"]


def test_a_pipeline_of_the_last_hours_has_a_line_at_the_right():
    points = [(END - timedelta(hours=n), 60.0) for n in (0, 1, 2)]
    [line] = lines(sparkline(points, "lag", start=START, end=END, least=60))
    assert line == "88.0 1.0L92.0 1.0L96.0 1.0"
