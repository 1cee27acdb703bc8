"""What the file lacks for its model is shown by `apply` and `doctor`, and never changed by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pgvector_sync.model import DocumentInput, QueryInput
from support.examined import look, the
from support.synced import DOCS, Synced

Typed = Callable[..., tuple[int, str, str]]
MODEL = "text-embedding-nomic-embed-text-v1.5"
"""As LM Studio calls it."""
LINES = ['document.prefix = "search_document: "', 'query.prefix = "search_query: "']
PREFIXES = {"document": {"prefix": "search_document: "}, "query": {"prefix": "search_query: "}}


@pytest.fixture
def docs(synced: Synced) -> Synced:
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one')")
    synced.declare(model=MODEL)
    return synced


def shown(docs: Synced, typed: Typed, *options: str) -> str:
    docs.plan()  # writes the file
    code, out, err = typed("apply", "--file", str(docs.file), "--yes", *options)
    assert code == 0, err
    return out


def proposal(docs: Synced, typed: Typed) -> Any:
    return json.loads(shown(docs, typed, "--dry-run", "--json"))["pipelines"][0]["proposal"]


def test_the_plan_shows_once_what_to_add_and_changes_nothing_by_itself(docs: Synced, typed: Typed) -> None:
    for options, exists in ((["--dry-run"], False), ([], False), (["--dry-run"], True)):
        out = shown(docs, typed, *options)
        assert out.count("expects documents and queries in different forms") == 1, options
        assert "add to [pipelines.docs]:\n" + "".join(f"    {line}\n" for line in LINES) in out
        assert "see https://huggingface.co/nomic-ai/nomic-embed-text-v1.5;" in out
        assert ("then every row is embedded again" in out) == exists
    assert "nothing to do: the database matches the file" in out
    stored = docs.shape().pipeline.options
    assert (stored.document, stored.query) == (DocumentInput(), QueryInput())
    docs.settle()
    docs.exact()


def test_the_json_document_has_the_same_lines(docs: Synced, typed: Typed) -> None:
    assert proposal(docs, typed) == {
        "family": "Nomic Embed Text 1 and 1.5, ModernBERT Embed",
        "lines": LINES,
        "dialect": None,
        "source": "https://huggingface.co/nomic-ai/nomic-embed-text-v1.5",
    }
    docs.declare(model=MODEL, **PREFIXES)
    assert proposal(docs, typed) is None


def test_doctor_warns_until_the_file_says_what_is_meant(docs: Synced, typed: Typed) -> None:
    docs.apply()
    found = the("inputs", look(docs.database.url))
    assert (found.level, found.pipeline) == ("warning", "docs")
    assert (
        f"add to [pipelines.docs]: {'; '.join(LINES)}; then: pgvector-sync apply, which embeds every row again"
        in (found.advice or "")
    )
    docs.declare(model=MODEL, document={"prefix": ""}, query={"prefix": ""})
    docs.apply()
    assert "forms" not in shown(docs, typed)
    assert the("inputs", look(docs.database.url)).level == "ok"
    docs.declare(model=MODEL, **PREFIXES)
    docs.apply()
    found = the("inputs", look(docs.database.url))
    assert (found.level, found.seen) == (
        "ok",
        'documents: prefix "search_document: "; queries: prefix "search_query: "',
    )


def test_doctor_tries_the_model_for_queries_too(docs: Synced) -> None:
    docs.declare(model=MODEL, **PREFIXES)
    docs.apply()
    providers = [check for check in look(docs.database.url, offline=False) if check.name == "provider"]
    assert [check.level for check in providers] == ["ok"], "another prefix can't fail"
    docs.declare(model=MODEL, query={"model": "no-such-model"})
    docs.apply()
    found = the("provider", look(docs.database.url, offline=False))
    assert found.level == "error"
    assert "no-such-model for queries: " in found.seen
    docs.declare(model=MODEL, query={"model": "text-embedding-3-small"})
    docs.apply()
    docs.endpoint.fail("wrong_dimension", after=1)
    found = the("provider", look(docs.database.url, offline=False))
    assert "text-embedding-3-small for queries: expected vectors of 8 dimensions, got 7" in found.seen


def test_the_plan_says_that_vectors_of_both_kinds_stand_side_by_side(docs: Synced, typed: Typed) -> None:
    docs.apply()
    docs.settle()
    docs.declare(model=MODEL, document={"prefix": "search_document: "})
    assert "until the backfill is done, the target has vectors of both kinds" in shown(docs, typed, "--dry-run")
