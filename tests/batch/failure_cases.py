"""The failures of a provider that stop a pipeline, and what docs/failures.md promises of them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from pgvector_sync.model import State

DOCS_TABLE = Path(__file__).parents[2] / "docs" / "failures.md"
SECRET = "the patient's name is Erika Mustermann"
KEY = "test-key"
BACK_OFF = (1.0, 3.0)
"""The first: two seconds, with jitter of half."""


@dataclass(frozen=True)
class Case:
    """A failure on everything: the pipeline stops."""

    row: str
    """The row of the table in docs/failures.md that describes it."""
    how: dict[str, Any] = field(default_factory=dict)
    """As the endpoint's `fail` takes it."""
    state: State = State.COOLING_DOWN
    reason: str | None = None
    pause: tuple[float, float] = BACK_OFF
    """Minimum and maximum seconds until work resumes by itself."""


def answers(status: int, code: str, **headers: str) -> dict[str, Any]:
    """An error answer whose prose quotes text and key, as providers' do."""
    prose = f"invalid input {SECRET!r} for key {KEY}"
    body = json.dumps({"error": {"message": prose, "type": "error", "param": prose, "code": code}})
    return {"status": status, "body": body, "headers": {k.replace("_", "-"): v for k, v in headers.items()}}


def in_seconds(seconds: int) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


RATE = "rate limited by the provider (429 rate_limit_exceeded)"
WHAT_TO_CHECK = "check base_url of test, and whether this machine can reach it (DNS, proxy, firewall)"
CONNECTION = f"the connection to the provider failed; {WHAT_TO_CHECK}"
QUOTA = "the provider account's quota is used up ({}); check the plan, balance and billing of your account, then resume the pipeline"
WHAT_TO_CHANGE = (
    "check the pipeline's model and dimensions, and encoding and dimensions_parameter in [providers.test], "
    "then: pgvector-sync apply"
)
NOT_JSON = "the answer isn't a JSON embeddings object"
STOPPING = {
    "429 with seconds": Case(
        "rate limit", answers(429, "rate_limit_exceeded", Retry_After="77"), reason=RATE, pause=(70, 77)
    ),
    "429 with a date": Case(
        "rate limit",
        answers(429, "rate_limit_exceeded", Retry_After=in_seconds(36_000)),
        reason=RATE,
        pause=(32_400, 36_000),
    ),
    "429 without a time": Case("rate limit", answers(429, "rate_limit_exceeded"), reason=RATE),
    **{
        f"{status}": Case("outage", answers(status, "down"), reason=f"the provider failed ({status} down)")
        for status in (500, 502, 503, 529, 424)
    },
    "503 with seconds": Case(
        "outage",
        answers(503, "down", Retry_After="60"),
        reason="the provider failed (503 down)",
        pause=(50, 60),
    ),
    # a provider's word that is also one of ours, for failures that say nothing about the provider
    "503 deadline": Case("outage", answers(503, "deadline"), reason="the provider failed (503 deadline)"),
    "429 budget": Case("rate limit", answers(429, "budget"), reason="rate limited by the provider (429 budget)"),
    "200 with an error": Case("outage", answers(200, "down"), reason="the provider failed (200 down)"),
    "200 with a rate limit": Case(
        "rate limit",
        {
            "status": 200,
            "body": '{"vectors": null, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}}',
        },
        reason="rate limited by the provider (200 1002)",
    ),
    "reset": Case("connection", {"kind": "reset"}, reason=CONNECTION),
    "reset in the answer": Case("connection", {"kind": "reset_mid_body"}, reason=CONNECTION),
    "401": Case(
        "key",
        answers(401, "invalid_api_key"),
        State.MISCONFIGURED,
        "the provider rejected the API key (401 invalid_api_key); set TEST_KEY to a valid key where the workers run, and restart them",
    ),
    "403": Case(
        "forbidden",
        answers(403, "no_access"),
        State.MISCONFIGURED,
        "the provider denied access (403 no_access); check the permissions of the key and its access to the model",
    ),
    "404": Case(
        "model",
        answers(404, "model_not_found"),
        State.MISCONFIGURED,
        "the provider rejected the call (404 model_not_found); check the pipeline's model and base_url of test",
    ),
    **{
        answer: Case(
            "quota",
            answers(int(answer.split()[0]), answer.split()[1]),
            State.MISCONFIGURED,
            QUOTA.format(answer),
        )
        for answer in (
            *("429 insufficient_quota", "403 billing_not_active", "400 billing_hard_limit_reached"),
            *("402 no_money", "200 insufficient_balance"),
        )
    },
    **{
        f"{status} for every input": Case(
            "refused parameter",
            answers(status, "unknown_parameter"),
            State.MISCONFIGURED,
            f"the provider rejects every text ({status} unknown_parameter){advice}",
        )
        for status, advice in ((400, f"; {WHAT_TO_CHANGE}"), (413, ""), (422, f"; {WHAT_TO_CHANGE}"))
    },
    "redirect": Case(
        "redirect",
        {"kind": "redirect"},
        State.MISCONFIGURED,
        "the provider answered with a redirect, which isn't followed (307); set base_url of test to the final address",
    ),
    "no vectors": Case(
        "broken answer",
        {"status": 200, "body": '{"object": "list", "data": []}'},
        State.MISCONFIGURED,
        'the answer contains no vectors; if this persists, set encoding = "float" for the provider: some endpoints '
        "answer this to base64",
    ),
    **{
        kind: Case("broken answer", {"kind": kind}, State.MISCONFIGURED, reason)
        for kind, reason in {
            "wrong_count": "expected 3 vectors, got 2",
            "wrong_dimension": "expected vectors of 8 dimensions, got 7; check the pipeline's `dimensions`; "
            "a model with a fixed size accepts only that one",
            "nan": "a vector contains NaN or infinity",
            "infinity": "a vector contains NaN or infinity",
            "zero": "a vector is all zeros",
            "truncated": NOT_JSON,
            "html": NOT_JSON,
        }.items()
    },
}


def table(heading: str) -> dict[str, list[str]]:
    """First cell → the others, of the table behind this heading."""
    behind = DOCS_TABLE.read_text("utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in behind.splitlines() if line[:1] == "|"
    ]
    return {row[0].strip("| "): row[1:] for row in rows[2:]}


def documented(case: Case) -> bool:
    """Whether the docs promise this state and reason; `…` stands for what varies."""
    state, reasons, *_ = table("Failures of the provider")[case.row]
    patterns = [re.escape(reason).replace("…", ".+") for reason in re.findall(r"`([^`]+)`", reasons)]
    return state == f"`{case.state.value}`" and any(re.match(p, str(case.reason)) for p in patterns)
