"""The estimate: what a re-embed comes to, from a sample, without a call."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from pgvector_sync.embedding.tokens import count_tokens
from pgvector_sync.model import KeyColumn, Options, Pipeline, Provider, Source, Spec, State
from pgvector_sync.model.request import Reembed
from pgvector_sync.runs import estimate as module
from pgvector_sync.runs.estimate import Counted, Estimate, estimate, price_for, project
from pgvector_sync.settings import Settings
from support.beginnings import begins_with
from support.synced import DOCS, MODEL, Synced


def texts_of_all_kinds(synced: Synced) -> None:
    """Twenty rows: ten embedded, five new ones with texts of their own, five with one text, and two blank."""
    synced.run(DOCS, "INSERT INTO docs SELECT n, 'text number ' || n FROM generate_series(1, 10) n")
    synced.pipeline()
    synced.run(
        "INSERT INTO docs SELECT n, 'text number ' || n FROM generate_series(11, 15) n",
        "INSERT INTO docs SELECT n, 'the same text' FROM generate_series(16, 20) n",
        "INSERT INTO docs VALUES (21, ' '), (22, NULL)",
    )


beginning, synced = begins_with(texts_of_all_kinds)


def tokens(*texts: str) -> int:
    return sum(count_tokens(text, MODEL).about for text in texts)


@pytest.mark.parametrize("texts_at_once", [3, 100])
def test_where_all_rows_are_counted_the_estimate_is_exact(
    synced: Synced, monkeypatch: pytest.MonkeyPatch, texts_at_once: int
) -> None:
    monkeypatch.setattr(module, "READ_AT_ONCE", texts_at_once)
    calls = synced.endpoint.calls.requests
    found = estimate(synced.runtime, "docs")
    expected = tokens(*(f"text number {n}" for n in range(11, 16)), "the same text")
    assert (found.rows, found.sampled_rows, found.inputs, found.saved_inputs) == (20, 20, 6, 14)
    assert (found.tokens, found.tokens_error, found.tokens_exact) == (expected, 0, True)
    assert synced.endpoint.calls.requests == calls, "no provider is called"


def test_the_prefix_of_documents_is_counted_with_every_text(synced: Synced) -> None:
    prefix = "Represent the document for retrieval: "
    synced.declare(document={"prefix": prefix})
    synced.apply()
    found = estimate(synced.runtime, "docs")
    texts = [*(f"text number {n}" for n in range(1, 16)), "the same text"]
    assert (found.inputs, found.tokens) == (16, tokens(*(prefix + text for text in texts)))
    assert found.tokens > tokens(*texts) + 16 * tokens(prefix) / 2


def test_force_pays_for_what_is_stored_and_not_for_what_is_equal(synced: Synced) -> None:
    found = estimate(synced.runtime, "docs", Reembed(force=True))
    assert (found.inputs, found.saved_inputs) == (16, 4)


def test_a_condition_and_keys_narrow_it(synced: Synced) -> None:
    assert estimate(synced.runtime, "docs", Reembed(where="id <= 12")).rows == 12
    assert estimate(synced.runtime, "docs", keys=[(11,), (12,), (999,)]).rows == 2
    assert estimate(synced.runtime, "docs", Reembed(stale_only=True)).rows == 10


def test_a_sample_stands_for_all_rows_within_its_error(synced: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    synced.run("INSERT INTO docs SELECT n, repeat('word ', 1 + n % 40) || n FROM generate_series(101, 1100) n")
    exact = estimate(synced.runtime, "docs")
    assert exact.tokens_error == 0
    monkeypatch.setattr(module, "SAMPLE_ROWS", 200)
    sampled = estimate(synced.runtime, "docs")
    assert sampled.sampled_rows <= 200
    assert 0 < sampled.tokens_error < exact.tokens / 4
    assert abs(sampled.tokens - exact.tokens) < 3 * sampled.tokens_error


OPTIONS = Options(text="body", provider="openai", model=MODEL, dimensions=8)


def pipeline(**values: Any) -> Pipeline:
    provider = Provider("openai", base_url="https://api.openai.com/v1")
    source = Source(1, "public", "docs", (KeyColumn("id", "bigint"),))
    made = Pipeline(
        1, "docs", source, "public", "docs_embedding", "body", None, provider, Spec(MODEL, 8), 1, OPTIONS, State.ACTIVE,
    )  # fmt: skip
    return replace(made, **values)


def projected(made: Pipeline, total: int, counted: list[Counted], *, pace: float | None = None) -> Estimate:
    price = price_for(made, Settings(_env_file=None, openai_base_url=None))
    return project(made, total, counted, pace=pace, batch_rows=500, price=price)


HUNDRED = [Counted(100, exact=True, saved=False)] * 100


def test_the_price_is_the_pipelines_own_else_the_known_one() -> None:
    assert projected(pipeline(), 1_000_000, HUNDRED).usd == pytest.approx(2.0)
    own = pipeline(options=replace(OPTIONS, price=Decimal("0.5")))
    assert projected(own, 1_000_000, HUNDRED).usd == pytest.approx(50.0)
    assert projected(pipeline(spec=Spec("unheard-of", 8)), 1_000_000, HUNDRED).usd is None
    elsewhere = pipeline(provider=Provider("vllm", base_url="http://vllm:8000/v1"))
    assert projected(elsewhere, 1_000_000, HUNDRED).usd is None, "a server of one's own costs what it costs"
    assert projected(pipeline(provider=Provider("local", dialect="local")), 1_000_000, HUNDRED).usd == 0


def test_a_few_tokens_cost_little_and_not_nothing() -> None:
    assert projected(pipeline(), 1, HUNDRED).usd == pytest.approx(2e-6)


def test_the_time_is_bound_by_the_slowest_limit() -> None:
    by_tokens = Provider("p", base_url="https://x", requests_per_minute=1_000, tokens_per_minute=1_000_000)
    found = projected(pipeline(provider=by_tokens), 1_000_000, HUNDRED)
    assert found.bound_by == "tokens_per_minute"
    assert found.duration is not None
    assert found.duration.total_seconds() == pytest.approx(100 / 0.95 * 60, rel=0.01)
    by_requests = replace(by_tokens, requests_per_minute=10)
    assert projected(pipeline(provider=by_requests), 1_000_000, HUNDRED).bound_by == "requests_per_minute"
    a_day = projected(pipeline(options=replace(OPTIONS, tokens_per_day=30_000_000)), 1_000_000, HUNDRED)
    assert (a_day.bound_by, a_day.duration) == ("tokens_per_day", timedelta(days=3))
    assert projected(pipeline(), 1_000_000, HUNDRED, pace=100.0).duration == timedelta(seconds=10_000)
    quiet = projected(pipeline(provider=by_tokens), 1_000_000, HUNDRED, pace=0.01)
    assert quiet.bound_by == "tokens_per_minute", "a quiet hour says nothing about what the provider takes"
    assert projected(pipeline(), 1_000_000, HUNDRED).duration is None


def test_the_error_is_that_of_a_mean_without_replacement() -> None:
    counted = [Counted(n % 2 * 10, exact=True, saved=False) for n in range(100)]
    found = projected(pipeline(), 10_000, counted)
    spread = math.sqrt(25 * 100 / 99)
    assert found.tokens == 50_000
    assert found.tokens_error == math.ceil(1.96 * spread / 10 * math.sqrt(1 - 100 / 10_000) * 10_000)


def test_of_no_rows_nothing_is_said(synced: Synced) -> None:
    found = estimate(synced.runtime, "docs", Reembed(where="id < 0"))
    assert (found.rows, found.tokens, found.usd) == (0, 0, 0)
