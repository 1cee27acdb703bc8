"""A batch is a trace: claim, embeddings and write inside it, and links to the run that has caused it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from pgvector_sync.batch.process import process
from pgvector_sync.model import Lane
from pgvector_sync.model.request import Reembed
from pgvector_sync.runs.requests import request_reembed
from pgvector_sync.telemetry import spans as subject
from pgvector_sync.telemetry.events.process import SinkFailed
from support.events import collected
from support.lines import logged
from support.steps import Steps
from support.traces import spans

Spans = list[ReadableSpan]


@pytest.fixture
def ended() -> Iterator[Spans]:
    with spans() as ended:
        yield ended


def named(ended: Spans, name: str) -> Spans:
    return [span for span in ended if span.name == name]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def ids(span: ReadableSpan) -> tuple[int, int]:
    return span.context.trace_id, span.context.span_id


def test_a_batch_is_one_span_with_claim_embeddings_and_write_inside(docs: Steps, ended: Spans) -> None:
    docs.insert(_1="one", _2="two")
    docs.process()
    [batch] = named(ended, "process docs")
    inside = [span for span in ended if parent(span) == batch.context.span_id]
    assert [span.name for span in sorted(inside, key=lambda span: span.start_time or 0)] == [
        "claim",
        "embeddings text-embedding-3-small",
        "write",
    ]
    assert batch.kind is SpanKind.CONSUMER
    assert batch.parent is None
    shown = attributes(batch)
    assert len(shown.pop("pgvector_sync.batch")) == 36
    assert shown == {
        "pgvector_sync.pipeline": "docs",
        "pgvector_sync.lane": "live",
        "pgvector_sync.claimed": 2,
        "pgvector_sync.stored": 2,
        "pgvector_sync.parked": 0,
    }


def test_a_batch_begins_with_its_claim(docs: Steps, ended: Spans) -> None:
    docs.insert(_1="one")
    docs.process()
    [batch], [claim], [write] = named(ended, "process docs"), named(ended, "claim"), named(ended, "write")
    assert batch.start_time == claim.start_time
    assert claim.start_time < claim.end_time <= write.start_time <= write.end_time <= batch.end_time  # type: ignore[operator]


def test_a_claim_that_finds_nothing_leaves_no_span(docs: Steps, ended: Spans) -> None:
    assert process(docs.runtime, "docs", Lane.LIVE) is None
    assert ended == []


def test_a_call_has_the_attributes_of_the_conventions_for_generative_models(docs: Steps, ended: Spans) -> None:
    docs.insert(_1="one", _2="two")
    docs.process()
    [call] = named(ended, "embeddings text-embedding-3-small")
    assert call.kind is SpanKind.CLIENT
    assert attributes(call) == {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "text-embedding-3-small",
        "gen_ai.embeddings.dimension.count": 8,
        "gen_ai.usage.input_tokens": docs.synced.endpoint.calls.tokens,
        "server.address": "127.0.0.1",
        "server.port": int(docs.synced.endpoint.root.rpartition(":")[2]),
        "pgvector_sync.provider": "test",
        "pgvector_sync.inputs": 2,
        "pgvector_sync.attempt": 1,
        "pgvector_sync.request_id": docs.synced.endpoint.calls.request_ids[-1],
    }


def test_calls_made_at_once_are_inside_the_batch(docs: Steps, ended: Spans) -> None:
    docs.synced.provider["max_inputs"] = 1
    docs.synced.apply()
    docs.insert(_1="one", _2="two", _3="three")
    docs.process()
    [batch] = named(ended, "process docs")
    calls = named(ended, "embeddings text-embedding-3-small")
    assert len(calls) == 3
    assert {parent(call) for call in calls} == {batch.context.span_id}


def test_every_try_of_a_call_is_a_span_and_a_failed_one_says_its_class_alone(docs: Steps, ended: Spans) -> None:
    docs.synced.endpoint.fail(status=503, times=1)
    docs.insert(_1="one")
    docs.process()
    first, second = named(ended, "embeddings text-embedding-3-small")
    assert first.status.status_code is StatusCode.ERROR
    assert first.status.description is None
    assert first.events == ()
    assert attributes(first)["error.type"] == "Unavailable"
    assert attributes(first)["http.response.status_code"] == 503
    assert second.status.status_code is StatusCode.UNSET
    assert attributes(second)["pgvector_sync.attempt"] == 2


def test_a_write_that_fails_says_the_class_of_its_error_alone(docs: Steps, ended: Spans) -> None:
    docs.insert(_1="one")
    docs.checks = False
    docs.process(during=lambda: docs.synced.run("ALTER TABLE docs_embedding RENAME TO gone"))
    [write] = named(ended, "write")
    assert attributes(write)["error.type"] == "42P01"
    assert (write.status.description, write.events) == (None, ())


def test_a_batch_of_a_run_links_to_the_span_that_has_requested_the_run(docs: Steps, ended: Spans) -> None:
    docs.insert(_1="one")
    docs.synced.sync()
    ended.clear()
    with trace.get_tracer("an application").start_as_current_span("POST /reembed") as request:
        request_reembed(docs.synced.owner.database, "docs", Reembed(force=True))
    docs.synced.sync()
    [batch], [run] = named(ended, "process docs"), named(ended, "reembed docs")[:1]
    asked = (request.get_span_context().trace_id, request.get_span_context().span_id)
    for span in (batch, run):
        assert [(link.context.trace_id, link.context.span_id) for link in span.links] == [asked]
        assert span.context.trace_id != asked[0], "a run may take days: it is a trace of its own"


def test_without_such_a_span_a_batch_links_to_the_first_span_of_its_run(docs: Steps, ended: Spans) -> None:
    docs.insert(_1="one")
    docs.synced.sync()
    ended.clear()
    request_reembed(docs.synced.owner.database, "docs", Reembed(force=True))
    docs.synced.sync()
    first = named(ended, "reembed docs")[0]
    [batch] = named(ended, "process docs")
    assert [(link.context.trace_id, link.context.span_id) for link in batch.links] == [ids(first)]
    assert attributes(first)["pgvector_sync.run"] == attributes(batch)["pgvector_sync.run"]


@pytest.mark.parametrize("stored", ["nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", ""])
def test_a_span_that_a_run_only_pretends_to_have_is_no_link(docs: Steps, ended: Spans, stored: str) -> None:
    docs.insert(_1="one")
    docs.synced.sync()
    request_reembed(docs.synced.owner.database, "docs", Reembed(force=True))
    docs.synced.run(f"UPDATE pgvector_sync.run SET traceparent = '{stored}' WHERE state = 'running'")
    ended.clear()
    docs.synced.sync()
    assert [span.links for span in named(ended, "process docs")] == [()]


def test_the_lines_of_a_batch_have_the_ids_of_its_span(
    docs: Steps, ended: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    with logged(monkeypatch) as lines:
        docs.insert(_1="one")
        docs.process()
        logging.getLogger("some.library").warning("outside")
    [batch] = named(ended, "process docs")
    [written] = [line for line in lines if line["event"] == "write"]
    assert (int(written["trace_id"], 16), int(written["span_id"], 16)) == ids(batch)
    assert "trace_id" not in lines[-1]


def test_a_tracer_that_fails_is_reported_and_costs_no_batch(docs: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> Any:
        raise ValueError("bob")

    monkeypatch.setattr(subject, "_tracer", failing)
    docs.insert(_1="one")
    with logged(monkeypatch) as lines:
        outcome = docs.process()
    assert outcome is not None
    assert outcome.stored == 1
    failed = [line for line in lines if line["event"] == SinkFailed.name]
    assert {(line["sink"], line["error"]) for line in failed} == {("tracer", "ValueError")}


def test_without_the_extra_nothing_is_recorded_and_everything_works(
    docs: Steps, ended: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "INSTALLED", False)
    monkeypatch.delattr(subject, "trace")
    docs.insert(_1="one")
    with collected() as events:
        docs.process()
    request_reembed(docs.synced.owner.database, "docs", Reembed(force=True))
    docs.synced.sync()
    assert ended == []
    assert events.of(SinkFailed) == []
