"""docs/how-it-works.md draws and explains exactly the states and the columns of the code."""

import re
from pathlib import Path

from pgvector_sync.model import State

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-it-works.md").read_text("utf-8")
SCHEMA = (ROOT / "sql/migrations/0001_initial.sql").read_text("utf-8")


def section(heading: str) -> str:
    return PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]


def diagram(text: str) -> str:
    return "\n".join(re.findall(r"^ {4}.*$", text, re.MULTILINE))


def rows(text: str) -> list[str]:
    """The first column of the table, without its heading."""
    return [cell.strip("` ") for cell in re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)][1:]


def test_every_state_of_a_pipeline_is_drawn_and_explained():
    text = section("States of a pipeline")
    assert rows(text) == [state.value for state in State]
    stored = re.search(r"CHECK \(state IN \(([^)]*'removing'[^)]*)\)\)", SCHEMA)[1]
    assert all(state.strip(" '") in diagram(text) for state in stored.split(","))


def test_every_state_of_a_work_row_is_drawn_and_explained():
    text = section("States of a work row")
    assert rows(text) == ["waiting", "claimed", "abandoned", "dead", "discarded"]
    verdicts = re.search(r"verdict +text CHECK \(verdict IN \(([^)]*)\)\)", SCHEMA)[1]
    assert {verdict.strip(" '") for verdict in verdicts.split(",")} == {"dead", "discarded"}
    assert all(f"`{column}`" in text for column in ("lease", "parked_at", "verdict", "visible_at", "generation"))


def test_every_column_of_a_target_is_explained():
    create = (
        (ROOT / "sql/queries/target_ddl.sql").read_text("utf-8").split("-- name: create\n", 1)[1].split(";", 1)[0]
    )
    columns = re.findall(r"^    ([a-z_]+) +(int|text|bytea|timestamptz|\{column_type\})", create, re.MULTILINE)
    explained = re.findall(r"^\| `([a-z_]+)` \| `(\w+)`", section("The target"), re.MULTILINE)
    assert explained == [(name, kind.replace("{column_type}", "vector")) for name, kind in columns]
