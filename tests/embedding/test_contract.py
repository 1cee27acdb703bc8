"""Every endpoint of support/endpoints.toml: it works with the settings that the docs give, and its failures are understood.

PGVECTOR_SYNC_REWRITE_SNAPSHOT=1 pytest tests/embedding/test_contract.py       after a change of the file
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedding.conftest import Caller
from pgvector_sync import errors
from pgvector_sync.embedding.dialects.known import KNOWN, UNKNOWN, known_by
from pgvector_sync.errors import BrokenContract, InputRejected, ProviderError
from pgvector_sync.model import Spec
from support.endpoint import Endpoint, tokens_of, vector_of

Entry = dict[str, Any]

PAGE = Path(__file__).parents[2] / "docs" / "providers.md"
BEGIN, END = "<!-- generated from tests/support/endpoints.toml -->", "<!-- end of the generated part -->"
REWRITE = bool(os.environ.get("PGVECTOR_SYNC_REWRITE_SNAPSHOT"))  # read before the fixtures clear the environment
ENDPOINTS: list[Entry] = tomllib.loads(
    (Path(__file__).parents[1] / "support" / "endpoints.toml").read_text("utf-8")
)["endpoint"]
ANSWERS = [(entry, answer) for entry in ENDPOINTS for answer in entry.get("answers", [])]
TEXTS = [f"text {i}" for i in range(120)]
OWN_SIZE = 1_536
"""The dimensions of the vectors of an endpoint that isn't told another size."""


def quirks(entry: Entry) -> list[str]:
    return [difference["quirk"] for difference in entry.get("differs", []) if difference["quirk"]]


def known_settings(entry: Entry) -> dict[str, Any]:
    """What known.py says about the entry's host. Our endpoint has another host, so it is set explicitly."""
    known = known_by(entry["base_url"])
    names = ("encoding", "dimensions_parameter", "max_inputs", "max_request_tokens", "max_input_tokens")
    return {name: value for name in names if (value := getattr(known, name)) is not None}


def spec_for(entry: Entry) -> Spec:
    """A spec whose dimensions are the model's own if the endpoint can't be asked for others."""
    settings = known_settings(entry) | entry.get("provider", {})
    fixed = settings.get("dimensions_parameter") == "none" or "ignores_dimensions" in quirks(entry)
    body = entry.get("pipeline", {}).get("document", {}).get("body", {})
    return Spec("text-embedding-3-small", OWN_SIZE if fixed else 64, body=body)


@pytest.mark.parametrize("entry", ENDPOINTS, ids=lambda entry: entry["name"])
def test_an_endpoint_works_with_the_settings_that_the_docs_give(
    entry: Entry, endpoint: Endpoint, open_caller: Callable[..., Caller]
) -> None:
    endpoint.behave(*quirks(entry))
    settings = known_settings(entry) | entry.get("provider", {})
    spec = spec_for(entry)
    answer = open_caller(endpoint.base_url, **settings)(TEXTS, spec)
    expected = np.array([vector_of(text, spec.dimensions) for text in TEXTS])
    scale = 2 if "not_normalized" in quirks(entry) else 1
    assert np.allclose(answer.vectors, scale * expected)
    assert (answer.left, answer.failure) == ((), None)
    assert answer.requests == -(-len(TEXTS) // min(settings.get("max_inputs", len(TEXTS)), len(TEXTS)))
    counted = sum(map(tokens_of, TEXTS))
    assert counted <= answer.tokens < 2 * counted, "as counted, or estimated by bytes"


@pytest.mark.parametrize(
    ("entry", "answer"), ANSWERS, ids=[f"{entry['name']}-{answer['what']}" for entry, answer in ANSWERS]
)
def test_a_failure_becomes_the_class_that_the_contract_names(
    entry: Entry, answer: Entry, endpoint: Endpoint, open_caller: Callable[..., Caller]
) -> None:
    endpoint.fail(status=answer["status"], body=answer["body"], headers=answer.get("headers", {}))
    with pytest.raises(ProviderError) as caught:
        open_caller(endpoint.base_url, **entry.get("provider", {}))(["one", "two"])
    error = caught.value
    assert type(error).__name__ == answer["becomes"]
    assert error.code == answer.get("code")
    shown = f"({' '.join(str(part) for part in (answer['status'], answer.get('code')) if part)})"
    assert shown in str(error) or error.code == "no_vectors"
    assert answer.get("says", "") in str(error)
    assert answer.get("hint", "") in (error.hint or "")
    wait = answer.get("wait")
    assert error.retry_after == (None if wait is None else timedelta(seconds=wait))


@pytest.mark.parametrize(
    ("quirk", "setting", "fields"),
    [
        ("refuses_base64", 'encoding = "float" or "none" in [providers.test]', {}),
        ("refuses_float", 'encoding = "none" or "base64" in [providers.test]', {"encoding": "float"}),
        ("refuses_encoding", 'encoding = "float" or "none" in [providers.test]', {}),
        ("refuses_encoding", 'encoding = "none" or "base64" in [providers.test]', {"encoding": "float"}),
        ("refuses_dimensions", 'dimensions_parameter = "none" in [providers.test]', {}),
        ("wants_output_dimension", 'dimensions_parameter = "none" in [providers.test]', {}),
        ("needs_input_type", "`input_type` in the `body` of the pipeline's `document`", {}),
    ],
)
def test_a_rejected_parameter_names_the_setting_to_change(
    quirk: str, setting: str, fields: Entry, endpoint: Endpoint, open_caller: Callable[..., Caller]
) -> None:
    endpoint.behave(quirk)
    with pytest.raises(InputRejected) as caught:
        open_caller(endpoint.base_url, **fields)(["one", "two"])
    assert setting in str(caught.value.hint)
    assert "pgvector-sync apply" in str(caught.value.hint)


def test_an_endpoint_that_ignores_the_dimensions_is_told_by_its_vectors(
    endpoint: Endpoint, open_caller: Callable[..., Caller]
) -> None:
    endpoint.behave("ignores_dimensions")
    with pytest.raises(BrokenContract, match=f"expected vectors of 64 dimensions, got {OWN_SIZE}") as caught:
        open_caller(endpoint.base_url)(["one"])
    assert "`dimensions`" in str(caught.value.hint)


def test_every_known_host_is_in_the_contract() -> None:
    described = {known_by(entry["base_url"]).hosts for entry in ENDPOINTS} - {UNKNOWN.hosts}
    assert described == {known.hosts for known in KNOWN}


def test_the_contract_sets_nothing_that_is_known_anyway() -> None:
    repeated = [
        entry["name"] for entry in ENDPOINTS if set(known_settings(entry)) & set(entry.get("provider", {}))
    ]
    assert repeated == []


def test_every_class_in_the_contract_exists() -> None:
    names = {answer["becomes"] for _, answer in ANSWERS}
    assert len(names) > 4
    assert all(issubclass(getattr(errors, name), ProviderError) for name in names)


# -- the tables of the docs -----------------------------------------------------------------------------------


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {toml(inner)}" for name, inner in value.items()) + "}"
    return f'"{value}"' if isinstance(value, str) else f"{value}"


def settings_of(entry: Entry) -> str:
    needed = [f"`{name} = {toml(value)}`" for name, value in entry.get("provider", {}).items()]
    needed += [f"in the pipeline `{name} = {toml(value)}`" for name, value in entry.get("pipeline", {}).items()]
    known = ", ".join(f"`{name} = {toml(value)}`" for name, value in known_settings(entry).items())
    return ("; ".join(needed) or "none") + (f" (known by the host: {known})" if known else "")


def linked(part: Entry) -> str:
    return f"[{part['what']}]({part['source']})"


def generated() -> str:
    rows = ["| endpoint | `base_url` | differs from OpenAI's | settings to write |", "|---|---|---|---|"]
    rows += [
        f"| {entry['name']} | `{entry['base_url']}` | {'; '.join(map(linked, entry.get('differs', []))) or 'none'} "
        f"| {settings_of(entry)} |"
        for entry in ENDPOINTS
    ]
    taken = {
        "QuotaUsedUp": "quota used up",
        "RateLimited": "rate limit",
        "Unavailable": "outage",
        "InputRejected": "rejected input",
        "CallRejected": "rejected call",
        "BrokenContract": "broken answer",
    }
    rows += ["", "| endpoint | answers | which is taken as |", "|---|---|---|"]
    rows += [f"| {entry['name']} | {linked(answer)} | {taken[answer['becomes']]} |" for entry, answer in ANSWERS]
    return "\n".join(rows)


def test_the_docs_have_the_tables_of_the_contract() -> None:
    text = PAGE.read_text("utf-8")
    match = re.search(rf"{re.escape(BEGIN)}\n\n(.*?)\n\n{re.escape(END)}", text, re.DOTALL)
    assert match is not None, "docs/providers.md has lost the marks of the generated part"
    if REWRITE:
        text = text[: match.start(1)] + generated() + text[match.end(1) :]
        PAGE.write_text(text, "utf-8")
        match = re.search(rf"{re.escape(BEGIN)}\n\n(.*?)\n\n{re.escape(END)}", text, re.DOTALL)
    assert match is not None
    assert match[1] == generated(), "if this is intended: run with PGVECTOR_SYNC_REWRITE_SNAPSHOT=1"
