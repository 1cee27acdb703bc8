"""A change of how documents are embedded makes every vector stale, once; a change of how queries are embedded, none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from pgvector_sync.batch import Outcome
from pgvector_sync.embedding.dialects import DIALECTS
from pgvector_sync.embedding.dialects.openai_compatible import OpenAICompatible
from pgvector_sync.errors import Refused
from pgvector_sync.model import DocumentInput, Options, Spec
from pgvector_sync.model.request import Reconcile, Reembed
from pgvector_sync.observe.search import nearest
from pgvector_sync.observe.waiting import find_run
from pgvector_sync.runs import run
from pgvector_sync.runs.requests import request_reconcile, request_reembed
from support import endpoint_contract
from support.beginnings import begins_with
from support.endpoint import Endpoint
from support.steps import Steps
from support.synced import DOCS, Synced
from support.waiting import within

BODY = {"body": {"input_type": "document"}}


class Native(OpenAICompatible):
    """The same API under another name, as if it treated documents in a way of its own."""

    name = "native"
    built_in = None


def two_texts(synced: Synced) -> None:
    """Three rows with two distinct texts."""
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one', 'uno'), (2, 'two', 'dos'), (3, 'two', 'tres')")
    synced.pipeline()


beginning, begun = begins_with(two_texts)


@pytest.fixture
def docs(begun: Synced, monkeypatch: pytest.MonkeyPatch) -> Synced:
    """At an endpoint that takes `input_type`."""
    parameters = endpoint_contract.PARAMETERS | {"input_type"}
    monkeypatch.setattr(endpoint_contract, "PARAMETERS", parameters)
    return begun


@pytest.fixture
def buys(docs: Synced) -> Callable[[], int]:
    """Apply what is declared, sync, and return how many texts were bought."""

    def apply_and_sync() -> int:
        before = docs.paid()
        docs.apply()
        docs.sync()
        assert docs.plan().empty
        return docs.paid() - before

    return apply_and_sync


def sent(endpoint: Endpoint, *texts: str) -> bool:
    """Whether the last texts sent are these."""
    last = endpoint.calls.sha256[-len(texts) :]
    return sorted(last) == sorted(hashlib.sha256(text.encode()).hexdigest() for text in texts)


def versions(docs: Synced) -> tuple[int, int]:
    """The spec's version, and the number of backfills so far."""
    [(version, runs)] = docs.database.execute(
        "SELECT spec_version, (SELECT count(*) FROM pgvector_sync.run) FROM pgvector_sync.pipeline"
    )
    return version, runs


def test_another_prefix_of_documents_embeds_every_text_again_exactly_once(docs: Synced, buys: Callable[[], int]):
    docs.declare(document={"prefix": "passage: "})
    (planned,) = docs.plan().pending
    assert [(each.what, each.before, each.after) for each in planned.changes] == [
        ("document", "as it is", 'prefix "passage: "')
    ]
    assert planned.backfill_words == "embeds 3 rows with text-embedding-3-small"
    assert buys() == 2
    assert sent(docs.endpoint, "passage: one", "passage: two")
    assert buys() == 0
    docs.run("UPDATE docs SET body = 'three' WHERE id = 3")
    docs.sync()
    assert sent(docs.endpoint, "passage: three")
    docs.declare()
    assert buys() == 3
    assert sent(docs.endpoint, "one", "two", "three")


def test_another_body_of_documents_embeds_every_text_again_exactly_once(docs: Synced, buys: Callable[[], int]):
    docs.declare(document=BODY)
    assert buys() == 2
    assert docs.endpoint.calls.bodies[-1]["input_type"] == "document"
    docs.run("UPDATE docs SET note = 'ignored'")
    assert buys() == 0


def test_the_input_of_queries_changes_no_vector(docs: Synced, buys: Callable[[], int]):
    docs.declare(query={"prefix": "query: ", "body": {"input_type": "query"}, "model": "text-embedding-3-large"})
    assert not docs.plan().pending[0].backfill
    assert (buys(), versions(docs)) == (0, (1, 1))
    nearest(docs.runtime, "docs", "one", k=1)
    assert sent(docs.endpoint, "query: one")
    assert docs.endpoint.calls.bodies[-1]["input_type"] == "query"
    assert docs.endpoint.calls.bodies[-1]["model"] == "text-embedding-3-large"


def test_an_empty_prefix_is_the_same_as_none_and_embeds_nothing_again(docs: Synced, buys: Callable[[], int]):
    docs.declare(document={"prefix": ""}, query={"prefix": ""})
    (planned,) = docs.plan().pending
    assert {change.what for change in planned.changes} == {"document", "query"}
    assert not planned.backfill
    assert (buys(), versions(docs)) == (0, (1, 1))
    assert docs.shape().pipeline.options.document == DocumentInput(prefix="")


def test_an_empty_prefix_differs_from_none_where_the_dialect_may_have_prompts_of_its_own():
    plain, native = Spec("m", 8), Spec("m", 8, dialect="local")
    assert Spec("m", 8, prefix="").digest == plain.digest != Spec("m", 8, prefix=" ").digest
    assert Spec("m", 8, prefix="", dialect="local").digest != native.digest != plain.digest


@pytest.mark.parametrize(
    "other",
    [
        {"model": "n"},
        {"dimensions": 9},
        {"chunking": "by sentence"},
        {"prefix": "passage: "},
        {"body": {"input_type": "document"}},
        {"dialect": "native"},
    ],
    ids=str,
)
def test_every_field_of_a_spec_is_in_its_digest(other: dict[str, Any]):
    values = {"model": "m", "dimensions": 8}
    assert Spec(**values | other).digest != Spec(**values).digest
    assert Spec(**values | other).digest == Spec(**values | other).digest


def test_the_order_of_a_bodys_parameters_makes_no_difference():
    assert Spec("m", 8, body={"a": 1, "b": {"c": 2, "d": 3}}).digest == (
        Spec("m", 8, body={"b": {"d": 3, "c": 2}, "a": 1}).digest
    )


def test_the_stored_body_gives_the_digest_of_the_declared_one(docs: Synced):
    body = {"input_type": "document", "x": {"list": [1, 2.5, 1e-7, True, "é"], "big": 2**60}}
    docs.declare(document={"body": body})
    (planned,) = docs.apply().pending
    assert docs.shape().pipeline.spec == planned.spec
    assert docs.shape().pipeline.spec.digest == planned.spec.digest


def test_another_address_of_the_same_api_embeds_nothing_again(docs: Synced, buys: Callable[[], int]):
    docs.provider["base_url"] = docs.endpoint.base_url.replace("127.0.0.1", "localhost")
    docs.provider["tokens_per_minute"] = 1_000_000
    assert [provider.name for provider in docs.plan().providers] == ["test"]
    docs.apply()
    assert docs.plan().empty
    assert (versions(docs), docs.plan().pending) == ((1, 1), [])


def test_another_dialect_embeds_every_text_again_exactly_once(
    docs: Synced, buys: Callable[[], int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(DIALECTS, "native", Native())
    docs.provider["dialect"] = "native"
    (planned,) = docs.plan().pending
    assert [(each.what, each.before, each.after) for each in planned.changes] == [("dialect", "openai", "native")]
    assert buys() == 2
    assert versions(docs) == (2, 2)
    assert buys() == 0


def test_a_dialect_is_not_changed_under_a_pipeline_that_the_file_lacks(
    docs: Synced, monkeypatch: pytest.MonkeyPatch
):
    docs.pipeline("notes", text=["note"])
    monkeypatch.setitem(DIALECTS, "native", Native())
    docs.provider["dialect"] = "native"
    del docs.declared["notes"]
    with pytest.raises(Refused, match="pipeline notes also uses provider test") as refused:
        docs.apply()
    assert "pgvector-sync remove notes" in (refused.value.hint or "")
    assert docs.database.value("SELECT dialect FROM pgvector_sync.provider") == "openai"


@pytest.mark.parametrize("again", [{}, {"prefix": "passage: "}])
def test_kept_vectors_are_taken_over_only_if_they_were_embedded_the_same_way(
    docs: Synced, buys: Callable[[], int], again: dict[str, str]
):
    docs.declare(document={"prefix": "passage: "})
    buys()
    docs.remove(keep_vectors=True)
    docs.declare(document=again)
    assert buys() == (0 if again else 2)


def test_a_batch_that_was_claimed_before_the_change_writes_nothing(docs: Synced):
    steps = Steps(docs, docs.runtime)
    docs.run("INSERT INTO docs VALUES (4, 'four')")

    def change() -> None:
        docs.declare(document={"prefix": "passage: "})
        docs.apply()

    outcome = steps.process(during=change)
    assert isinstance(outcome, Outcome)
    assert outcome.stored == 0
    assert (4,) not in docs.vectors()
    docs.sync()
    assert (4,) in docs.vectors()


def test_vectors_of_another_prefix_have_drifted_and_are_repaired(docs: Synced):
    docs.run("""UPDATE pgvector_sync.pipeline SET document = '{"prefix": "passage: "}'""")
    requested = request_reconcile(docs.runtime.database, "docs", Reconcile(deep=True))
    run.carry_out(docs.runtime, requested.run_id, until=within(20))
    assert find_run(docs.runtime, requested.run_id).counts["stale"] == 3
    docs.sync()
    assert sent(docs.endpoint, "passage: one", "passage: two")


def test_a_reembed_pays_only_for_what_another_prefix_made_stale(docs: Synced, buys: Callable[[], int]):
    docs.declare(document={"prefix": "passage: "})
    buys()
    before = docs.paid()
    request_reembed(docs.runtime.database, "docs", Reembed())
    docs.sync()
    assert docs.paid() == before


def test_options_know_the_dialect_of_their_provider(docs: Synced):
    options: Options = docs.shape().pipeline.options
    assert (options.dialect, docs.shape().pipeline.spec.dialect) == ("openai", "openai")


def test_the_plan_says_which_settings_of_a_provider_change(docs: Synced, buys: Callable[[], int]):
    docs.provider |= {"max_inputs": 32, "headers": {"X-Team": "search"}}
    (planned,) = docs.plan().providers
    assert [(each.what, each.before, each.after) for each in planned.changes] == [
        ("max_inputs", "not set", "32"),
        ("headers", "not set", '{"X-Team": "search"}'),
    ]
    docs.apply()
    del docs.provider["max_inputs"]
    (planned,) = docs.plan().providers
    assert [(each.what, each.before, each.after) for each in planned.changes] == [("max_inputs", "32", "not set")]
