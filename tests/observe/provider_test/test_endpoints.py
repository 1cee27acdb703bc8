"""What `provider test` finds out about endpoints with the habits and limits of different servers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from pgvector_sync.model import Provider, Spec
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.observe.level import Level
from pgvector_sync.observe.provider_test import cost_of, run, subject_of
from pgvector_sync.observe.provider_test.report import Report, report_of
from pgvector_sync.observe.provider_test.seen import Seen
from pgvector_sync.settings import Settings
from support.choosy_endpoint import choosy_endpoint
from support.endpoint import ALLOWED_HOSTS, Endpoint

MODEL = "text-embedding-3-small"


def tried(
    base_url: str,
    *,
    dimensions: int = 64,
    query: dict[str, Any] | None = None,
    body: dict[str, Any] | None = None,
    seconds: float = 60.0,
    timeout: float = 30.0,
    **fields: Any,
) -> Report:
    """The report of a test of this provider."""
    settings = Settings(_env_file=None, allowed_hosts=ALLOWED_HOSTS, provider_timeout=timedelta(seconds=timeout))
    provider = Provider("test", base_url=base_url, api_key_env="TEST_KEY", **fields)
    spec = Spec(MODEL, dimensions, body=body or {})
    subject = subject_of(provider, spec, replace(spec, **(query or {})))
    seen = Seen(subject)
    deadline = Deadline.after(timedelta(seconds=seconds))
    run(seen, settings, {"TEST_KEY": "test-key"}, deadline=deadline, began=lambda _: None)
    report = report_of(seen, settings)
    cost = cost_of(subject, None)
    assert report.calls <= cost.calls
    assert report.texts <= cost.texts
    return report


def result(report: Report, capability: str) -> str:
    [finding] = [finding for finding in report.findings if finding.capability == capability]
    return finding.result


def level(report: Report, capability: str) -> Level:
    [finding] = [finding for finding in report.findings if finding.capability == capability]
    return finding.level


def pasted(report: Report) -> dict[str, Any]:
    return {setting.key: setting.value for setting in report.settings}


def of(**habits: Any) -> Report:
    """The report of a test of an endpoint with these habits, whose requests are counted."""
    with choosy_endpoint(**habits) as endpoint:
        report = tried(endpoint.base_url)
        assert (report.calls, report.texts) == (endpoint.requests, endpoint.texts)
        return report


@pytest.mark.slow
def test_an_endpoint_that_does_everything_needs_no_setting() -> None:
    report = of()
    assert (report.works, report.stopped_by, report.settings) == (True, None, ())
    assert result(report, "settings as they are") == "accepted, 64 dimensions"
    assert result(report, "batch of 2,048").startswith("accepted, in order, ")
    assert result(report, "text of 9,911 tokens") == "accepted, and read beyond 9,010 tokens"
    assert result(report, "normalized") == "yes"
    assert result(report, "same text, same vector") == "yes"
    assert result(report, "usage") == "reported"
    unusual = {finding.capability for finding in report.findings if finding.level is not Level.OK}
    assert unusual <= {"two calls at once"}  # which depends on how busy this machine is


def test_the_strict_endpoint_is_told_apart_in_eighteen_calls() -> None:
    with Endpoint() as endpoint:
        report = tried(endpoint.base_url)
        assert (report.works, report.settings, report.calls) == (True, (), 18)
        assert endpoint.calls.requests == 18
    assert result(report, "size of vectors") == "1,536 dimensions if no size is requested"
    assert result(report, "dimensions") == "64 requested and returned"
    assert result(report, "text of 9,010 tokens") == "refused (400 context_length_exceeded)"
    assert result(report, "empty text") == "refused (400 invalid_input)"


def test_a_size_that_no_parameter_gives_is_an_error_of_the_pipeline() -> None:
    report = of(parameter=None, ignores_unknown=True, dimensions=128)
    assert not report.works
    assert result(report, "dimensions of the pipeline") == "64 isn't available, only 128"
    assert [finding.setting for finding in report.findings if finding.setting] == ["dimensions = 128"]
    assert report.settings == ()
    assert result(report, "batch of 257").startswith("accepted, in order")


@pytest.mark.slow
def test_the_proposed_settings_work() -> None:
    habits = {"encodings": ("none",), "parameter": "output_dimension", "dimensions": 128, "max_inputs": 32}
    with choosy_endpoint(**habits) as endpoint:
        first = tried(endpoint.base_url)
        assert not first.works
        settings = pasted(first)
        assert settings == {"encoding": "none", "dimensions_parameter": "output_dimension", "max_inputs": 32}
        second = tried(endpoint.base_url, **settings)
    assert (second.works, second.settings) == (True, ())
    assert level(second, "batch of 33") is Level.OK


def test_a_limit_that_the_provider_has_already_needs_no_setting() -> None:
    with choosy_endpoint(max_inputs=100) as endpoint:
        report = tried(endpoint.base_url, max_inputs=100)
    assert (report.works, report.settings) == (True, ())
    assert level(report, "batch of 257") is Level.OK


@pytest.mark.slow
def test_a_batch_that_is_not_answered_in_time_limits_the_inputs() -> None:
    with choosy_endpoint(seconds_per_text=0.004) as endpoint:
        report = tried(endpoint.base_url, timeout=0.6)
    assert result(report, "batch of 257") == "no answer within 1 s"
    assert pasted(report) == {"max_inputs": 100}
    [setting] = report.settings
    assert setting.why == "250 weren't answered in time"


def test_vectors_in_the_wrong_order_are_an_error() -> None:
    report = of(reverses=True)
    assert not report.works
    assert level(report, "batch of 2") is Level.ERROR
    assert "but in another order" in result(report, "batch of 2")


def test_one_vector_for_a_whole_batch_is_noticed() -> None:
    report = of(one_vector=True)
    assert not report.works
    assert result(report, "batch of 2") == "expected 2 vectors, got 1"
    assert pasted(report) == {"max_inputs": 1}
    with choosy_endpoint(one_vector=True) as endpoint:
        assert tried(endpoint.base_url, max_inputs=1).works


@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_a_text_that_is_cut_off_silently_is_noticed(noise: float) -> None:
    report = of(window=512, truncates=True, noise=noise, max_inputs=33)
    assert result(report, "text of 2,300 tokens") == "cut off silently: what follows 600 tokens changes nothing"
    assert level(report, "text of 2,300 tokens") is Level.WARNING
    assert report.works


@pytest.mark.slow
def test_habits_without_a_setting_are_shown() -> None:
    report = of(scale=3.0, usage=False, accepts_blank=True, noise=0.01, ignores_encoding=True)
    assert result(report, "normalized").startswith("no, lengths ")
    assert result(report, "usage") == "not reported: tokens are estimated"
    assert result(report, "empty text") == "answered"
    assert result(report, "no text at all") == "the answer contains no vectors"
    assert result(report, "same text, same vector").startswith("no: cosine 0.99")
    assert report.works


def test_a_prefix_for_queries_makes_another_vector() -> None:
    with choosy_endpoint() as endpoint:
        report = tried(endpoint.base_url, query={"prefix": "query: "})
        assert result(report, "query and document").startswith("different vectors (cosine ")
        assert result(tried(endpoint.base_url), "query and document") == "the same request"


@pytest.mark.parametrize(
    ("serial", "words"), [(True, "answered one after the other: "), (False, "answered together: ")]
)
def test_a_server_that_computes_one_request_after_the_other_is_noticed(serial: bool, words: str) -> None:
    report = of(serial=serial, seconds_per_text=0.006, max_inputs=33)
    assert result(report, "two calls at once").startswith(words)


def test_a_rate_limit_ends_the_test_and_says_how_long_to_wait() -> None:
    report = of(rate_limited_after=9)
    assert report.calls == 10
    assert report.stopped_by == "rate limited by the provider (429 slow_down)"
    assert report.advice == "run the test again in 20 s"
    assert result(report, "dimensions") == "32 requested and returned"
    assert report.works


def test_a_wrong_key_ends_the_test_after_one_call() -> None:
    report = of(key="another")
    assert (report.calls, report.works) == (1, False)
    assert report.stopped_by == "the provider rejected the API key (401 invalid_api_key)"
    assert "TEST_KEY" in (report.advice or "")


def test_an_endpoint_that_refuses_everything_is_asked_four_times() -> None:
    report = of(encodings=())
    assert (report.calls, report.works, report.settings) == (4, False, ())
    assert report.advice


def test_an_outage_changes_no_setting() -> None:
    report = of(fails_after=12)
    assert report.settings == ()
    assert any(finding.result == "failed (503 overloaded)" for finding in report.findings)


def test_nobody_listening_ends_the_test_after_one_call() -> None:
    with choosy_endpoint() as endpoint:
        pass
    report = tried(endpoint.base_url)
    assert (report.calls, report.works, report.stopped_by) == (1, False, "the connection to the provider failed")
    assert "base_url of test" in (report.advice or "")


@pytest.mark.slow
def test_the_time_limit_ends_the_test_and_proposes_nothing() -> None:
    with choosy_endpoint() as endpoint:
        tried(endpoint.base_url)  # imports what the first call of a process needs
        endpoint.habits.seconds_per_text = 0.1
        report = tried(endpoint.base_url, seconds=3.0)
    assert report.stopped_by == "the time limit of the test is over"
    assert report.advice == "raise it with --time-limit"
    assert report.calls < 15
    assert (report.works, report.settings) == (True, ())


def test_a_small_budget_ends_the_test_instead_of_breaking_it() -> None:
    with choosy_endpoint() as endpoint:
        report = tried(endpoint.base_url, requests_per_minute=60, seconds=2.0)
        assert report.calls == endpoint.requests < 8
    assert report.stopped_by is not None


def test_a_report_holds_no_text_and_no_message_of_the_provider() -> None:
    with choosy_endpoint(encodings=("none",), window=512) as endpoint:
        report = tried(endpoint.base_url)
        sent = {text for body in endpoint.bodies for text in body["input"] if text}
    shown = repr(report)
    assert len(sent) > 300
    assert "refused (400 unsupported_encoding)" in shown
    assert not [text for text in sent if text in shown]
    assert "may quote" not in shown
    assert "test-key" not in shown


def test_the_local_model_is_tested_without_an_endpoint() -> None:
    spec = Spec("wordllama", 64)
    subject = subject_of(Provider("local", dialect="local"), spec, spec)
    seen = Seen(subject)
    run(seen, Settings(_env_file=None), {}, deadline=Deadline.after(timedelta(seconds=60)), began=lambda _: None)
    report = report_of(seen, Settings(_env_file=None))
    assert (report.works, report.settings, report.stopped_by) == (True, (), None)
    assert result(report, "batch of 257").startswith("accepted, in order")
    assert not [finding for finding in report.findings if finding.capability.startswith("encoding")]
