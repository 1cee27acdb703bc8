"""Which methods of `Sync` a role may call."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pgvector_sync import Refused, Sync
from support.beginnings import begins_with, ten_rows
from support.client import sync_as
from support.roles import APPLICATION, MONITOR, OWNER, WORKER
from support.synced import Synced

beginning, synced = begins_with(ten_rows)

DECLARED: dict[str, Callable[[Sync], object]] = {
    "index_status": lambda sync: sync.index_status(),
    "pipelines": lambda sync: sync.pipelines(),
    "key_columns": lambda sync: sync.key_columns("docs"),
    "provider": lambda sync: sync.provider("docs"),
    "require_unpaused": lambda sync: sync.require_unpaused("docs"),
    "embed_query": lambda sync: sync.embed_query("docs", "text"),
    "aembed_query": lambda sync: asyncio.run(sync.aembed_query("docs", "text")),
}
SEARCHING: dict[str, Callable[[Sync], object]] = {
    "search": lambda sync: sync.search("docs", "text"),
    "asearch": lambda sync: asyncio.run(sync.asearch("docs", "text")),
    "explain_search": lambda sync: sync.explain_search("docs", "text"),
    "index_recall": lambda sync: sync.index_recall("docs", queries=2),
}
READING: dict[str, Callable[[Sync], object]] = {
    "status": lambda sync: sync.status(),
    "index_builds": lambda sync: sync.index_builds(),
    "runs": lambda sync: sync.runs(),
    "run": lambda sync: sync.run(1),
    "dead_letters": lambda sync: sync.dead_letters(),
    "reconciliations": lambda sync: sync.reconciliations(),
    "wait": lambda sync: sync.wait(1),
}
WORKING: dict[str, Callable[[Sync], object]] = {
    "capacity": lambda sync: sync.capacity("docs", 1_000),
    "index_advise": lambda sync: sync.index_advise("docs"),
    "status(exact=True)": lambda sync: sync.status(exact=True),
    "estimate": lambda sync: sync.estimate("docs"),
    "reembed": lambda sync: sync.cancel(sync.reembed("docs").run_id),
    "index_build": lambda sync: sync.index_build("docs", rebuild=True),
    "wait_for_index": lambda sync: sync.index_cancel("docs") and sync.wait_for_index(sync.index_builds()[0].id),
    "index_cancel": lambda sync: sync.index_build("docs", rebuild=True) and sync.index_cancel("docs"),
    "reconcile": lambda sync: sync.wait(sync.reconcile("docs").run_id, carry_out=True),
    "pause": lambda sync: sync.pause("docs"),
    "resume": lambda sync: sync.resume("docs"),
    "requeue": lambda sync: sync.requeue("docs"),
    "discard": lambda sync: sync.discard("docs"),
    "discard_bad_keys": lambda sync: sync.discard_bad_keys("docs"),
}
ENQUEUE: dict[str, Callable[[Sync], object]] = {"enqueue": lambda sync: sync.enqueue("docs", [1])}
CREATING: dict[str, Callable[[Sync], object]] = {"index_rehearse": lambda sync: sync.index_rehearse("docs", 1_000)}
"""Needs CREATE on the database; tests/observe/test_index_rehearsal.py carries it out."""
EVERY = DECLARED | SEARCHING | READING | WORKING | ENQUEUE | CREATING


@pytest.mark.parametrize(
    ("role", "allowed", "refused"),
    [
        (APPLICATION, DECLARED | SEARCHING | ENQUEUE, READING | WORKING | CREATING),
        (MONITOR, DECLARED | READING, SEARCHING | WORKING | ENQUEUE | CREATING),
        (WORKER, DECLARED | SEARCHING | READING | WORKING, ENQUEUE | CREATING),
        (OWNER, DECLARED | SEARCHING | READING | WORKING | ENQUEUE, {}),
    ],
)
def test_a_role_may_do_what_the_table_in_docs_says(
    synced: Synced,
    role: str,
    allowed: dict[str, Callable[[Sync], object]],
    refused: dict[str, Callable[[Sync], object]],
) -> None:
    synced.run(
        f"GRANT SELECT ON docs, docs_embedding TO {APPLICATION}",
        "CREATE INDEX ON docs_embedding USING hnsw (embedding vector_cosine_ops)",
    )
    with sync_as(synced.database, role) as sync:
        for call in allowed.values():
            call(sync)
        for name, call in refused.items():
            with pytest.raises(Refused) as error:
                call(sync)
            assert error.value.hint, name


def test_the_table_in_docs_names_every_method_once() -> None:
    page = (Path(__file__).parents[2] / "docs" / "python.md").read_text("utf-8")
    methods = {name for name, _ in inspect.getmembers(Sync, inspect.isfunction) if not name.startswith("_")}
    assert {name.partition("(")[0] for name in EVERY} | {"cancel", "close"} == methods
    missing = [name for name in methods - {"close", "require_unpaused"} if f"`{name}" not in page]
    assert missing == []
    section = page.split("## Which role may call what", 1)[1].split("\n## ", 1)[0]
    cells = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    calls = [call for cell in cells for call in cell.split(", ")]
    assert len(calls) == len(set(calls))
