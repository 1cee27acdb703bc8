"""The JSON documents: docs/json.md lists all their fields, and each has a version."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import typer

from pgvector_sync.cli.app import app
from pgvector_sync.cli.commands import Listed
from pgvector_sync.client.documents import fields_of, write_document
from pgvector_sync.engine.loop import Loop
from pgvector_sync.runtime.bootstrap import Embedders
from support.endpoint import Endpoint
from support.looping import running
from support.roles import OWNER
from support.servers import Database
from support.synced import DOCS, Synced, open_synced

PAGE = (Path(__file__).parents[2] / "docs" / "json.md").read_text("utf-8")
SECTION = re.compile(r"^## `(?P<command>[^`]+) --json`\n(?P<body>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
FIELD = re.compile(r"^\| `(?P<path>[^`]+)` \|", re.MULTILINE)
DOCUMENTS = {found["command"]: set(FIELD.findall(found["body"])) for found in SECTION.finditer(PAGE)}
TYPED = {
    "apply": ["apply", "--dry-run", "--file", "changed.toml"],
    "status": ["status"],
    "health": ["health"],
    "doctor": ["doctor", "--offline"],
    "search": ["search", "docs", "text"],
    "provider test": ["provider", "test", "test", "--yes", "--file", "other.toml"],
    "search --explain": ["search", "docs", "text", "--explain"],
    "dead-letters list": ["dead-letters", "list"],
    "runs list": ["runs", "list"],
    "runs show": ["runs", "show", "1"],
    "reembed": ["reembed", "docs", "--where", "id > 3"],
    "reembed --wait": ["reembed", "docs", "--wait"],
    "reembed --estimate": ["reembed", "docs", "--estimate"],
    "capacity": ["capacity", "docs", "--rows", "10M"],
    "index status": ["index", "status"],
    "index recall": ["index", "recall", "docs", "-k", "3", "--queries", "10", "--target", "0.1"],
    "index build": ["index", "build", "docs", "--rebuild"],
    "index build --wait": ["index", "build", "docs", "--rebuild", "--wait"],
    "index builds": ["index", "builds"],
    "index rehearse": ["index", "rehearse", "docs", "--rows", "200", "--latency-ms", "0.01", "--recall", "0.5"],
    "index advise": ["index", "advise", "docs", "--latency-ms", "0.001"],
    "reconcile": ["reconcile"],
    "reconcile --wait": ["reconcile", "--wait"],
    "reconcile --trend": ["reconcile", "--trend"],
}
"""The arguments for each document, in an order in which each has something to show."""
Typed = Callable[..., tuple[int, str, str]]


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command of the app with its full name."""
    command = command.load() if isinstance(command, Listed) else command
    inner = getattr(command, "commands", None)
    if inner is None:
        yield " ".join(path), command
    else:
        for name, each in inner.items():
            yield from commands(each, (*path, name))


def paths(value: Any, documented: set[str], path: str = "") -> set[str]:
    """The field paths of a document, in the page's notation and no deeper than the page goes."""
    inner = f"{path}[]" if isinstance(value, list) else path
    deeper = any(known.startswith(f"{inner}.") for known in documented)
    if path and not deeper:
        return {path}
    if isinstance(value, list):
        return set().union(*(paths(item, documented, inner) for item in value))
    return set().union(*(paths(item, documented, f"{path}.{name}".lstrip(".")) for name, item in value.items()))


@pytest.fixture
def synced(
    database: Database, shared: tuple[Endpoint, Embedders], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Synced]:
    """120 rows with their vectors, one dead letter, one reconciliation that has ended."""
    with open_synced(database, shared, tmp_path, monkeypatch) as synced:
        synced.run(DOCS)
        synced.pipeline()
        synced.endpoint.fail(status=400, code="content_filter", marker="poison")
        synced.run("INSERT INTO docs SELECT n, 'text ' || n FROM generate_series(101, 220) n")
        synced.run("INSERT INTO docs VALUES (10, 'poison')")
        synced.run("CREATE INDEX ON docs_embedding USING hnsw (embedding vector_cosine_ops)")
        synced.run(f"GRANT CREATE ON DATABASE {synced.database.name} TO {OWNER}")
        synced.settle()
        synced.endpoint.heal()
        changed = synced.file.read_text("utf-8").replace('text = ["body"]', 'text = ["body", "note"]')
        changed = changed.replace("[providers.test]", "[providers.test]\nmax_inputs = 100")
        changed += '[pipelines.docs.query]\nmodel = "text-embedding-e5"\n'  # lacks a prefix
        (tmp_path / "changed.toml").write_text(changed, "utf-8")
        other = changed.replace("[providers.test]", '[providers.test]\ndimensions_parameter = "none"')
        (tmp_path / "other.toml").write_text(other, "utf-8")
        monkeypatch.chdir(tmp_path)
        yield synced


@pytest.fixture
def working(synced: Synced) -> Iterator[None]:
    """Rows are embedded in a background thread."""
    with running(Loop(synced.runtime)):
        yield


def test_every_command_with_json_is_documented() -> None:
    offering = {
        name
        for name, command in commands(typer.main.get_command(app))
        if any("--json" in parameter.opts for parameter in command.params)
    }
    assert {document.partition(" --")[0] for document in DOCUMENTS} == offering
    assert DOCUMENTS.keys() == TYPED.keys()


@pytest.mark.usefixtures("working")
def test_every_document_has_a_version_and_the_documented_fields(synced: Synced, typed: Typed) -> None:
    for document, words in TYPED.items():
        code, out, err = typed(*words, "--json")
        assert code in (0, 1), (words, err)
        assert out, (words, err)
        printed = json.loads(out)
        assert next(iter(printed)) == "version", words
        assert printed.pop("version") == 1
        assert paths(printed, DOCUMENTS[document]) == DOCUMENTS[document], words


def test_a_document_has_times_in_utc_and_durations_in_seconds() -> None:
    class Colour(StrEnum):
        RED = "red"

    @dataclass(frozen=True)
    class Thing:
        colour: Colour
        at: datetime
        took: timedelta | None
        left: timedelta | None
        distance: float

    at = datetime(2026, 1, 31, 13, 0, 0, 500_000, tzinfo=UTC).astimezone(tz=None)
    thing = Thing(Colour.RED, at, timedelta(milliseconds=1500), None, float("nan"))
    assert json.loads(write_document({"thing": thing})) == {
        "version": 1,
        "thing": {
            "colour": "red",
            "at": "2026-01-31T13:00:00.500000Z",
            "took_seconds": 1.5,
            "left_seconds": None,
            "distance": None,
        },
    }
    assert list(fields_of(thing)) == ["colour", "at", "took_seconds", "left_seconds", "distance"]


def test_a_type_without_a_documented_form_is_refused() -> None:
    with pytest.raises(TypeError, match="value of type object"):
        write_document({"thing": object()})


def test_apply_reports_what_differed_and_whether_it_was_applied(synced: Synced, typed: Typed) -> None:
    code, out, _ = typed("apply", "--file", "changed.toml", "--check", "--json")
    assert code == 1
    plan = json.loads(out)
    [docs] = plan["pipelines"]
    assert (plan["pending"], plan["applied"], docs["action"], docs["backfill"]) == (True, False, "change", True)
    assert docs["estimate"]["rows"] == 121
    code, out, _ = typed("apply", "--file", "changed.toml", "--yes", "--json")
    assert (code, json.loads(out)["applied"]) == (0, True)
    code, out, _ = typed("apply", "--file", "changed.toml", "--check", "--json")
    plan = json.loads(out)
    assert (code, plan["pending"], plan["applied"], plan["pipelines"][0]["action"]) == (0, False, False, "none")
