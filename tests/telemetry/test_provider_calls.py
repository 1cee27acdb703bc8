"""Each call of a provider is one event, with what its support asks for, and with nothing of what was sent."""

from __future__ import annotations

import pytest

from pgvector_sync.embedding.request_id import request_id
from pgvector_sync.errors import CallRejected, InputRejected, RateLimited, TimedOut, Unavailable
from pgvector_sync.telemetry.events.provider import ProviderAnswered, ProviderCallFailed
from support.events import collected
from support.steps import Steps

SECRET = "sk-proj-0123456789abcdefABCDEF"
HEX = "9b88d5a752cc4d43bcee790d8f194a40"
UUID = "19caca44-92fc-4b21-9f6a-1794dd7ee639"


def test_an_answered_call_has_the_id_by_which_the_provider_knows_it(docs: Steps) -> None:
    docs.insert(_1="one", _2="two")
    with collected() as events:
        docs.process()
    [answered] = events.of(ProviderAnswered)
    assert answered.request_id == docs.synced.endpoint.calls.request_ids[-1]
    assert (answered.provider, answered.model) == ("test", "text-embedding-3-small")
    assert (answered.inputs, answered.attempt) == (2, 1)
    assert answered.tokens
    assert 0 < answered.seconds < 10
    assert events.of(ProviderCallFailed) == []


@pytest.mark.parametrize(
    ("status", "code", "kind", "error_class"),
    [
        (429, "rate_limit_exceeded", RateLimited, "rate_limited"),
        (401, "invalid_api_key", CallRejected, "misconfigured"),
        (400, "content_filter", InputRejected, "input_rejected"),
    ],
)
def test_a_failed_call_has_class_status_code_and_id(
    docs: Steps, status: int, code: str, kind: type[Exception], error_class: str
) -> None:
    docs.synced.endpoint.fail(status=status, code=code, headers={"Retry-After": "60"})
    docs.insert(_1="one")
    with collected() as events:
        docs.process()
    failed = events.of(ProviderCallFailed)[0]
    assert (failed.error, failed.error_class, failed.status, failed.code) == (kind, error_class, status, code)
    assert failed.request_id in docs.synced.endpoint.calls.request_ids


def test_every_try_of_a_call_that_is_retried_is_an_event(docs: Steps) -> None:
    docs.synced.endpoint.fail(status=503, times=2)
    docs.insert(_1="one")
    with collected() as events:
        docs.process()
    assert [(each.attempt, each.error) for each in events.of(ProviderCallFailed)] == [
        (1, Unavailable),
        (2, Unavailable),
    ]
    assert [each.attempt for each in events.of(ProviderAnswered)] == [3]
    assert len({each.request_id for each in events.of(ProviderCallFailed)}) == 2


def test_a_call_without_an_answer_has_no_status_and_no_id(docs: Steps) -> None:
    docs.synced.endpoint.fail("reset")
    docs.insert(_1="one")
    with collected() as events:
        docs.process()
    failed = events.of(ProviderCallFailed)[0]
    assert (failed.status, failed.request_id) == (None, None)
    assert failed.error is not TimedOut


def test_an_answer_that_breaks_the_contract_has_its_id_too(docs: Steps) -> None:
    docs.synced.endpoint.fail("truncated")
    docs.insert(_1="one")
    with collected() as events:
        docs.process()
    failed = events.of(ProviderCallFailed)[0]
    assert failed.error_class == "broken_contract"
    assert failed.request_id in docs.synced.endpoint.calls.request_ids


@pytest.mark.parametrize(
    "value",
    [
        HEX,
        UUID,
        f"req_{HEX}",
        "req_011CSHoEeqs5C35K2UUqR7Fy",
        "7f1b2c3d4e5f6789-FRA",
        f"embd-{HEX}",
    ],
)
def test_an_id_that_looks_random_is_taken(value: str) -> None:
    assert request_id({"x-request-id": value}, [SECRET]) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "12345",
        "the text of a row",
        "alice-is-ill",
        "alice_has_12_cats",
        "patient-4711-mueller",
        "deadbeefdeadbeef",
        "a" * 100,
        f"req_{HEX}\nforged",
        "0123456789abcdef",  # a part of the key
        SECRET,
        SECRET.removeprefix("sk-proj-"),
    ],
)
def test_anything_else_is_not(value: str) -> None:
    assert request_id({"x-request-id": value}, [SECRET]) is None


def test_the_id_of_a_gateway_is_taken_if_the_provider_gives_none() -> None:
    headers = {"cf-ray": "7f1b2c3d4e5f6789-FRA", "x-request-id": "my text"}
    assert request_id(headers, []) == "7f1b2c3d4e5f6789-FRA"
