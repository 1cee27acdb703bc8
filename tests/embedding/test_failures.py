"""Every class of failure over real HTTP: its error class, the number of tries, and that nothing leaks."""

from __future__ import annotations

import json
import socket
import time
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from pgvector_sync.embedding.refusal import Refusal, key_rejected, retry_after
from pgvector_sync.errors import (
    BrokenContract,
    CallRejected,
    InputRejected,
    Misconfigured,
    OutOfTime,
    ProviderError,
    QuotaUsedUp,
    RateLimited,
    TimedOut,
    Unavailable,
)
from pgvector_sync.model import Provider
from support.endpoint import Endpoint, self_signed

SECRET_TEXT = "the patient's name is Erika Mustermann"
TEXTS = [SECRET_TEXT, "another"]


def fails(embed, expected, **how):
    """Return the error of a call, after checking that neither it nor its traceback contains text or key."""
    with pytest.raises(expected) as caught:
        embed(TEXTS, **how)
    error = caught.value
    shown = "".join(traceback.format_exception(error)) + repr(vars(error))
    assert "Mustermann" not in shown
    assert "test-key" not in shown
    return error


def test_a_rate_limit_carries_its_seconds_and_is_not_retried_here(embed, endpoint):
    endpoint.fail(status=429, code="rate_limit_exceeded", headers={"Retry-After": "7"})
    error = fails(embed, RateLimited)
    assert (error.retry_after, error.status, error.code) == (timedelta(seconds=7), 429, "rate_limit_exceeded")
    assert endpoint.calls.requests == 1


def test_a_rate_limit_may_name_a_date(embed, endpoint):
    at = datetime.now(UTC) + timedelta(seconds=100)
    endpoint.fail(status=429, headers={"Retry-After": format_datetime(at, usegmt=True)})
    assert timedelta(seconds=90) < fails(embed, RateLimited).retry_after <= timedelta(seconds=100)


def test_a_rate_limit_may_have_no_time(embed, endpoint):
    endpoint.fail(status=429, body="slow down")
    assert fails(embed, RateLimited).retry_after is None


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": " 2.5 "}, 2.5),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37"}, 0),
        ({"retry-after": "90000"}, 86_400),
        ({"retry-after": "999999999999999999999"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "1.2.3"}, None),
        ({"retry-after-ms": "nan"}, None),
        ({"retry-after-ms": "inf"}, None),
        ({"retry-after-ms": "-5"}, 0),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_a_wait_is_between_zero_and_a_day_or_unknown(headers, expected):
    wait = retry_after(headers, now=datetime(2026, 1, 1, tzinfo=UTC))
    assert wait == (None if expected is None else timedelta(seconds=expected))


@pytest.mark.parametrize("status", [429, 403, 400])
def test_a_quota_that_is_used_up_waits_for_a_person(embed, endpoint, status):
    endpoint.fail(status=status, code="insufficient_quota")
    assert fails(embed, Misconfigured).code == "insufficient_quota"


def test_a_quota_may_be_named_by_the_type_alone(embed, endpoint):
    endpoint.fail(status=429, body='{"error": {"type": "insufficient_quota", "code": null, "message": "m"}}')
    fails(embed, Misconfigured)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 529, 408, 424])
def test_a_failure_of_the_provider_is_tried_three_times(embed, endpoint, status):
    endpoint.fail(status=status)
    assert fails(embed, Unavailable).status == status
    assert endpoint.calls.requests == 3


def test_a_temporary_failure_is_not_noticed(embed, endpoint):
    endpoint.fail(times=1, status=500)
    endpoint.fail("reset", times=1)
    assert embed(TEXTS).requests == 3


def test_a_provider_that_names_a_time_is_not_called_before(embed, endpoint):
    endpoint.fail(status=503, headers={"Retry-After": "30"})
    assert fails(embed, Unavailable).retry_after == timedelta(seconds=30)
    assert endpoint.calls.requests == 1


@pytest.mark.parametrize("fault", ["reset", "reset_mid_body"])
def test_a_connection_that_breaks_is_tried_again(embed, endpoint, fault):
    endpoint.fail(fault)
    assert fails(embed, Unavailable).code == "connection"
    assert endpoint.calls.requests == 3


def test_a_refused_connection_is_unavailable(open_caller):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        embed = open_caller(f"http://127.0.0.1:{bound.getsockname()[1]}/v1")
        assert fails(embed, Unavailable).code == "connection"


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_provider_that_hangs_costs_its_timeout_once(open_caller, endpoint, fault):
    endpoint.fail(fault, seconds=20)
    started = time.monotonic()
    fails(open_caller(endpoint.base_url, timeout=0.3), TimedOut)
    assert time.monotonic() - started < 3
    assert endpoint.calls.requests == 1


def test_nothing_continues_beyond_the_deadline(embed, endpoint):
    endpoint.fail("hang")
    started = time.monotonic()
    fails(embed, OutOfTime, seconds=0.5)
    assert time.monotonic() - started < 2
    assert endpoint.calls.requests == 1


def test_nothing_is_sent_once_the_deadline_has_passed(embed, endpoint):
    fails(embed, OutOfTime, seconds=-1)
    assert endpoint.calls.requests == 0


def test_a_failure_that_is_answered_with_200_is_classified_by_its_body(embed, endpoint):
    endpoint.fail("error_with_200")
    error = fails(embed, Unavailable)
    assert str(error) == "the provider failed (200 no_provider_available)"
    assert endpoint.calls.requests == 3


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "internal_error", Unavailable),
        (400, "InternalServerException", Unavailable),
        (403, "overloaded_error", Unavailable),
        (400, "model_timeout", Unavailable),
        (400, "com.amazon.coral.service#ThrottlingException", RateLimited),
        (400, "auth_error", CallRejected),
        (400, "invalid_input", InputRejected),
    ],
)
def test_a_code_says_more_than_a_status_that_stands_for_anything(embed, endpoint, status, code, kind):
    endpoint.fail(status=status, code=code)
    assert type(fails(embed, kind)) is kind


@pytest.mark.parametrize("status", [402, 429, 403, 400])
def test_a_text_that_costs_more_than_is_left_is_a_used_up_quota_and_not_a_rejected_text(embed, endpoint, status):
    endpoint.fail(status=status, code="insufficient_credits")
    error = fails(embed, QuotaUsedUp)
    assert "quota is used up" in str(error)
    assert type(error.of_one_input()) is QuotaUsedUp


@pytest.mark.parametrize(
    ("status", "answer", "message"),
    [
        (404, "model_not_found", "the provider rejected the call (404 model_not_found)"),
        (405, "method_not_allowed", "the provider rejected the call (405 method_not_allowed)"),
        (410, "ModelRetired", "the provider rejected the call (410 model_retired)"),
        (451, None, "the provider rejected the call (451 invalid_request_error)"),
    ],
)
def test_a_rejected_call_says_what_the_provider_said(embed, endpoint, status, answer, message):
    endpoint.fail(status=status, code=answer)
    error = fails(embed, Misconfigured)
    assert str(error) == message
    assert "base_url of test" in error.hint


@pytest.mark.parametrize("status", [401, 402, 403, 404, 405, 418])
def test_what_only_a_person_can_fix_is_misconfigured(embed, endpoint, status):
    endpoint.fail(status=status, body="<html>no</html>")
    error = fails(embed, Misconfigured)
    assert error.status == status
    assert error.hint
    assert endpoint.calls.requests == 1


def test_a_wrong_key_names_its_variable(open_caller, endpoint):
    error = fails(open_caller(endpoint.base_url, environ={"TEST_KEY": "wrong"}), Misconfigured)
    assert (error.status, error.code) == (401, "invalid_api_key")
    assert "TEST_KEY" in error.hint


def test_an_unknown_model_is_misconfigured(embed):
    from pgvector_sync.model import Spec

    assert fails(embed, Misconfigured, spec=Spec("no-such-model", 64)).code == "model_not_found"


def test_a_redirect_is_not_followed(embed, endpoint):
    endpoint.fail("redirect")
    assert fails(embed, Misconfigured).status == 307
    assert endpoint.calls.requests == 1


def test_an_untrusted_certificate_is_misconfigured(open_caller, tmp_path):
    with Endpoint(certificate=self_signed(tmp_path)) as endpoint:
        assert fails(open_caller(endpoint.base_url), Misconfigured).code == "certificate"
        assert endpoint.calls.requests == 0


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_input_is_refused_at_once(embed, endpoint, status):
    endpoint.fail(status=status, code="content_refused", body=None)
    assert fails(embed, InputRejected).status == status
    assert endpoint.calls.requests == 1


def test_only_requests_with_the_poisoned_input_are_refused(embed, endpoint):
    endpoint.fail(status=400, marker="Mustermann")
    fails(embed, InputRejected)
    assert len(embed(["harmless"]).vectors) == 1


@pytest.mark.parametrize("text", ["", "x" * 40_000])
def test_an_input_outside_the_limits_is_judged_by_the_provider(embed, endpoint, text):
    with pytest.raises(InputRejected):
        embed([text])


@pytest.mark.parametrize("quoted", [SECRET_TEXT, "test-key", "TestKey", "Erika_Mustermann is too long"])
@pytest.mark.parametrize("status", [200, 400, 403, 429])
def test_nothing_that_an_error_quotes_is_shown_wherever_it_is(embed, endpoint, status, quoted):
    inner = dict.fromkeys(("code", "type", "status", "error_type", "reason", "message", "param", "msg"), quoted)
    body = {
        "error": {**inner, "details": [inner], "innererror": inner},
        "detail": [inner, {"loc": [quoted]}],
        **inner,
    }
    endpoint.fail(status=status, body=json.dumps([body]))
    error = fails(embed, ProviderError)
    shown = f"{error} {error.hint}".lower()
    assert "mustermann" not in shown
    assert "test" not in shown.replace("of test", "").replace("providers.test", "").replace("test_key", "")


@pytest.mark.parametrize(
    ("status", "code"), [(413, "validation"), (400, "context_length_exceeded"), (400, "string_above_max_length")]
)
def test_a_text_that_is_too_large_is_no_reason_to_change_a_setting(embed, endpoint, status, code):
    endpoint.fail(status=status, code=code)
    assert fails(embed, InputRejected).hint is None


@pytest.mark.parametrize("code", [SECRET_TEXT, "x" * 65, "", 0, 400, 10**9, 1.5, True, {"a": 1}, "400", "None"])
def test_an_invalid_code_is_left_out(embed, endpoint, code):
    endpoint.fail(status=400, body=json.dumps({"error": {"code": code, "message": SECRET_TEXT}}))
    assert fails(embed, InputRejected).code is None


@pytest.mark.parametrize("body", ["", "null", "[]", '"text"', '{"error": "text"}', '{"error": null}', "{"])
def test_an_error_without_a_valid_body_is_classified_by_its_status(embed, endpoint, body):
    endpoint.fail(status=422, body=body)
    fails(embed, InputRejected)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("truncated", "malformed"),
        ("html", "malformed"),
        ("wrong_count", "wrong_count"),
        ("duplicate_index", "wrong_index"),
        ("wrong_dimension", "wrong_dimensions"),
        ("nan", "not_finite"),
        ("infinity", "not_finite"),
        ("zero", "zero_vector"),
    ],
)
@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_an_invalid_answer_breaks_the_contract(open_caller, endpoint, fault, code, encoding):
    endpoint.fail(fault)
    assert fails(open_caller(endpoint.base_url, encoding=encoding), BrokenContract).code == code
    assert endpoint.calls.requests == 1


def test_not_even_debug_logging_shows_texts_keys_or_addresses(embed, endpoint, caplog):
    caplog.set_level("DEBUG")
    embed(TEXTS)
    endpoint.fail(status=400, body=f'{{"error": {{"message": "{SECRET_TEXT}"}}}}')
    fails(embed, InputRejected)
    assert "Mustermann" not in caplog.text
    assert "test-key" not in caplog.text
    assert endpoint.base_url not in caplog.text


HOW_TO_SET_A_KEY = {
    "set LLM_KEY to a valid key where the workers run, and restart them": Provider("x", api_key_env="LLM_KEY"),
    "correct the headers of [providers.x], or the variables that they name": Provider(
        "x", headers={"api-key": "$LLM_KEY"}
    ),
    "name the variable with the key as api_key_env in [providers.x], then: pgvector-sync apply": Provider("x"),
}


@pytest.mark.parametrize("hint", HOW_TO_SET_A_KEY)
def test_a_rejected_key_says_where_the_key_is_set(hint):
    refusal = Refusal(401, None, None, HOW_TO_SET_A_KEY[hint], "base_url", ())
    assert key_rejected(refusal, "invalid_api_key").hint == hint
