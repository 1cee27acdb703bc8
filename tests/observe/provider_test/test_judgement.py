"""What follows from the replies of an endpoint, without any call."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from pgvector_sync.errors import (
    BrokenContract,
    BudgetExhausted,
    BudgetOverdrawn,
    CallRejected,
    InputRejected,
    Misconfigured,
    OutOfTime,
    ProviderError,
    QuotaUsedUp,
    RateLimited,
    TimedOut,
    Unavailable,
    Unreachable,
)
from pgvector_sync.model import Provider, Spec
from pgvector_sync.observe.provider_test import cost_of, go_through, subject_of
from pgvector_sync.observe.provider_test.reply import Outcome, Reply
from pgvector_sync.observe.provider_test.report import Report, report_of
from pgvector_sync.observe.provider_test.seen import Seen
from pgvector_sync.observe.provider_test.trials import Call, Trial, plan
from pgvector_sync.settings import Settings
from support.endpoint import vector_of

TOOK = timedelta(milliseconds=100)
REFUSED = Reply(TOOK, failure=InputRejected("no", status=400, code="no_good"))
NATIVE = 64
Make = Callable[[Trial, Call], Reply]


def vectors(trial: Trial, call: Call, *, window: int = 100_000) -> Reply:
    """The answer of an endpoint that reads this many words."""
    rows = [vector_of(" ".join(text.split()[:window]) + ".", call.spec.dimensions) for text in trial.texts]
    return Reply(TOOK, np.array(rows, dtype=np.float32).reshape(-1, call.spec.dimensions), tokens=1)


def of_size(trial: Trial, call: Call, size: int) -> Reply:
    """The answer of an endpoint that returns vectors of this size."""
    if size == call.spec.dimensions:
        return vectors(trial, call)
    return Reply(TOOK, failure=BrokenContract("wrong", code="wrong_dimensions", dimensions=size))


def seen_of(make: Make, *, dimensions: int = NATIVE, **fields: Any) -> Seen:
    """Goes through all trials of an endpoint that replies by `make`."""
    provider = Provider("test", base_url="https://api.example.com/v1", **fields)
    spec = Spec("a-model", dimensions)
    seen = Seen(subject_of(provider, spec, spec))
    go_through(seen, make)
    return seen


def judged(make: Make, **fields: Any) -> Report:
    return report_of(seen_of(make, **fields), Settings(_env_file=None))


def pasted(report: Report) -> dict[str, Any]:
    """The settings as they are read from the file again."""
    written = tomllib.loads(report.sections or "")
    section: dict[str, Any] = written.get("providers", {}).get("test", {})
    return section


def form(call: Call) -> tuple[str, str]:
    """The encoding and the parameter of a request."""
    return call.provider.encoding or "base64", call.provider.dimensions_parameter or "dimensions"


@pytest.mark.parametrize(
    ("accepted", "settings"),
    [
        ({"base64", "float", "none"}, {}),
        ({"float", "none"}, {"encoding": "float"}),
        ({"float"}, {"encoding": "float"}),
        ({"none"}, {"encoding": "none"}),
        ({"base64"}, {}),
    ],
)
@pytest.mark.parametrize("dimensions", [NATIVE, 32])
def test_the_best_accepted_encoding_is_proposed(
    accepted: set[str], settings: dict[str, str], dimensions: int
) -> None:
    def make(trial: Trial, call: Call) -> Reply:
        encoding, parameter = form(call)
        if encoding not in accepted:
            return REFUSED
        return of_size(trial, call, NATIVE if parameter == "none" else call.spec.dimensions)

    report = judged(make, dimensions=dimensions)
    assert (pasted(report), report.works) == (settings, settings == {})


@pytest.mark.parametrize(
    ("honoured", "ignored", "dimensions", "settings"),
    [
        ("dimensions", False, 32, {}),
        ("output_dimension", False, 32, {"dimensions_parameter": "output_dimension"}),
        ("output_dimension", True, 32, {"dimensions_parameter": "output_dimension"}),
        ("output_dimension", False, NATIVE, {"dimensions_parameter": "output_dimension"}),
        ("output_dimension", True, NATIVE, {}),
        ("none", False, NATIVE, {"dimensions_parameter": "none"}),
        ("none", True, NATIVE, {}),
    ],
)
def test_the_parameter_that_gives_the_pipelines_size_is_proposed(
    honoured: str, ignored: bool, dimensions: int, settings: dict[str, str]
) -> None:
    def make(trial: Trial, call: Call) -> Reply:
        _, parameter = form(call)
        if parameter not in (honoured, "none") and not ignored:
            return REFUSED
        return of_size(trial, call, call.spec.dimensions if parameter == honoured != "none" else NATIVE)

    report = judged(make, dimensions=dimensions)
    assert (pasted(report), report.works) == (settings, settings == {})


def test_settings_that_are_needed_already_are_not_proposed() -> None:
    def make(trial: Trial, call: Call) -> Reply:
        encoding, parameter = form(call)
        return of_size(trial, call, NATIVE) if (encoding, parameter) == ("none", "none") else REFUSED

    report = judged(make, dimensions_parameter="none")
    assert pasted(report) == {"encoding": "none"}
    assert judged(make, dimensions_parameter="none", encoding="none").settings == ()


@pytest.mark.parametrize(
    ("allowed", "proposed"),
    [(1, 1), (2, 2), (9, 2), (10, 10), (32, 32), (64, 64), (96, 64), (100, 100), (128, 100), (250, 250)],
)
def test_a_limit_of_inputs_is_found_among_the_common_ones(allowed: int, proposed: int) -> None:
    report = judged(lambda trial, call: REFUSED if len(trial.texts) > allowed else vectors(trial, call))
    assert pasted(report) == {"max_inputs": proposed}
    assert report.works


@pytest.mark.parametrize(("allowed", "proposed"), [(1_500, 1_000), (1_000, 1_000), (999, 257)])
def test_a_limit_below_the_providers_own_is_found(allowed: int, proposed: int) -> None:
    report = judged(lambda trial, call: REFUSED if len(trial.texts) > allowed else vectors(trial, call))
    assert pasted(report) == {"max_inputs": proposed}


@pytest.mark.parametrize("stated", [10, 20, 32, 96, 100, 257])
def test_a_limit_that_the_provider_has_already_is_not_proposed(stated: int) -> None:
    seen = seen_of(
        lambda trial, call: REFUSED if len(trial.texts) > stated else vectors(trial, call), max_inputs=stated
    )
    report = report_of(seen, Settings(_env_file=None))
    assert report.settings == ()
    assert seen.largest == stated
    assert {finding.level.value for finding in report.findings} == {"ok"}


@pytest.mark.parametrize(
    ("window", "settings"),
    [(300, {"max_input_tokens": 512}), (600, {"max_input_tokens": 2_048}), (2_300, {}), (9_010, {})],
)
def test_a_window_smaller_than_assumed_is_proposed(window: int, settings: dict[str, int]) -> None:
    def make(trial: Trial, call: Call) -> Reply:
        return REFUSED if any(len(text.split()) > window for text in trial.texts) else vectors(trial, call)

    assert pasted(judged(make)) == settings


@pytest.mark.parametrize(
    ("window", "capability", "read"),
    [
        (512, "text of 2,300 tokens", "600"),
        (2_048, "text of 9,010 tokens", "2,300"),
        (9_010, "text of 9,911 tokens", "9,010"),
    ],
)
def test_the_first_text_whose_end_was_not_read_is_named(window: int, capability: str, read: str) -> None:
    report = judged(lambda trial, call: vectors(trial, call, window=window))
    [finding] = [finding for finding in report.findings if finding.result.startswith("cut off silently")][:1]
    assert finding.capability == capability
    assert f"what follows {read} tokens" in finding.result


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (InputRejected("", status=400), Outcome.REFUSED),
        (CallRejected("", status=404), Outcome.REFUSED),
        (CallRejected("", status=401), Outcome.ENDS),
        (QuotaUsedUp("", status=402), Outcome.ENDS),
        (QuotaUsedUp("", status=429, code="insufficient_quota"), Outcome.ENDS),
        (BrokenContract(""), Outcome.INVALID),
        (Unavailable("", status=503), Outcome.FAILED),
        (Unavailable("", code="connection"), Outcome.ENDS),
        (TimedOut(), Outcome.UNANSWERED),
        (Unreachable(""), Outcome.ENDS),
        (RateLimited("", status=429), Outcome.ENDS),
        (BudgetExhausted(""), Outcome.ENDS),
        (BudgetOverdrawn(""), Outcome.ENDS),
        (OutOfTime(""), Outcome.ENDS),
        (Misconfigured("", code="certificate"), Outcome.ENDS),
    ],
)
def test_what_a_failure_says_about_further_calls(failure: ProviderError, outcome: Outcome) -> None:
    assert Reply(TOOK, failure=failure).outcome is outcome


def test_a_failure_of_the_provider_is_no_limit() -> None:
    broken = Reply(TOOK, failure=Unavailable("", status=500))
    report = judged(lambda trial, call: broken if len(trial.texts) > 2 else vectors(trial, call))
    assert report.settings == ()
    assert "failed (500)" in {finding.result for finding in report.findings}


@pytest.mark.parametrize("limit", [1, 10, 32, 64, 100, 250, 999, 2_048, 5_000])
@pytest.mark.parametrize("stated", [None, 32])
def test_no_path_costs_more_than_was_announced(limit: int, stated: int | None) -> None:
    made: list[Trial] = []

    def make(trial: Trial, call: Call) -> Reply:
        made.append(trial)
        return REFUSED if len(trial.texts) > limit else vectors(trial, call)

    seen = seen_of(make, max_inputs=stated)
    cost = cost_of(seen.subject, None)
    assert len({trial.name for trial in made}) == len(made) > 15
    assert sum(trial.copies for trial in made) <= cost.calls
    assert sum(trial.copies * len(trial.texts) for trial in made) <= cost.texts


def test_the_cost_counts_prefixes_and_the_price() -> None:
    provider = Provider("test", base_url="https://api.example.com/v1")
    plain = cost_of(subject_of(provider, Spec("m", 8), Spec("m", 8)), None)
    longer = Spec("m", 8, prefix="search_document: ")
    prefixed = cost_of(subject_of(provider, longer, longer), None)
    assert plain.usd is None
    assert prefixed.calls == plain.calls
    assert prefixed.tokens >= plain.tokens + 4 * plain.texts


def test_every_trial_sends_other_texts_or_another_request() -> None:
    provider = Provider("test", base_url="https://api.example.com/v1")
    trials = plan(subject_of(provider, Spec("m", 8), Spec("m", 8)))
    batches = [trial.texts for trial in trials if trial.name.startswith("batch ")]
    assert len(batches) == 10
    common = set.intersection(*map(set, batches))
    assert len(common) == 2
    assert all(len(set(texts)) == len(texts) for texts in batches)


def test_vectors_that_depend_on_the_batch_are_a_warning() -> None:
    def make(trial: Trial, call: Call) -> Reply:
        reply = vectors(trial, call)
        if len(trial.texts) > 1 and reply.vectors is not None:
            shared = reply.vectors.mean(axis=0)
            return Reply(TOOK, reply.vectors + 0.3 * shared, tokens=1)
        return reply

    report = judged(make)
    assert report.works
    [finding] = [finding for finding in report.findings if finding.capability == "batch of 2"]
    assert "in order, but the vectors differ from those of single texts (cosine 0.9" in finding.result


def test_a_slow_answer_to_a_long_text_is_no_limit() -> None:
    slow = Reply(TOOK, failure=TimedOut())
    report = judged(lambda trial, call: slow if trial.name == "long 600" else vectors(trial, call))
    assert report.settings == ()


@pytest.mark.parametrize(
    ("stated", "expected"),
    [(None, [600, 2_300, 9_010, 9_911]), (128_000, [600, 2_300, 9_010, 9_911]), (512, [563, 619])],
)
def test_long_texts_exceed_the_limit_unless_that_would_cost_much(stated: int | None, expected: list[int]) -> None:
    seen = seen_of(vectors, max_input_tokens=stated)
    assert [name for name in seen.replies if name.startswith("long ")] == [f"long {length}" for length in expected]
