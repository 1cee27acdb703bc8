"""A role that may only update the table of providers: what its headers, parameters, authority and proxy can't do."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psycopg
import pytest

from support.connect_proxy import ConnectProxy
from support.hostile_endpoint import Hostile
from support.provider_attack import Write, works
from support.synced import DOCS, Synced

SECRET = "hunter2"
DEEP = "[" * 3_000 + "]" * 3_000


def stays_unsent(synced: Synced) -> bool:
    return synced.endpoint.calls.requests == 0


@pytest.mark.parametrize("name", ["STRIPE_API_KEY", "DATABASE_URL"])
def test_a_header_gets_no_secret_that_isnt_bound_to_the_host(
    synced: Synced, write: Write, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, SECRET)
    write(headers=json.dumps({"x-team": f"${name}"}))
    reason = works(synced)
    assert stays_unsent(synced)
    assert "sent" in reason
    assert SECRET not in reason


@pytest.mark.parametrize(
    "headers",
    [
        {"X-HTTP-Method-Override": "DELETE"},
        {"X-Original-URL": "/admin"},
        {"x-portkey-custom-host": "elsewhere.example"},
        {"Host": "elsewhere.example"},
        {"Transfer-Encoding": "chunked"},
        {"X-Team": "a\r\nX-HTTP-Method: DELETE"},
        {"X-Team\r\nX-HTTP-Method": "DELETE"},
    ],
    ids=lambda headers: next(iter(headers))[:20],
)
@pytest.mark.quick_variants(3)
def test_a_header_cant_make_the_endpoint_do_anything_else(
    synced: Synced, write: Write, headers: dict[str, str]
) -> None:
    write(headers=json.dumps(headers))
    assert works(synced).startswith("headers")
    assert stays_unsent(synced)


@pytest.mark.parametrize(
    "body",
    [
        {"input": ["another text"]},
        {"MODEL": "another model"},
        {"api_base": "https://elsewhere.example"},
        {"fallbacks": ["another model"]},
        {"metadata": {"langfuse_host": "https://elsewhere.example"}},
    ],
    ids=lambda body: next(iter(body)),
)
def test_a_parameter_replaces_neither_text_nor_model_nor_host(
    synced: Synced, write: Write, body: dict[str, object]
) -> None:
    write(extra_body=json.dumps(body))
    reason = works(synced)
    assert reason.startswith(f"extra_body.{next(iter(body))}")
    assert " of test: not supported" in reason
    assert stays_unsent(synced)


@pytest.mark.parametrize("column", ["headers", "extra_body"])
@pytest.mark.parametrize(
    "value", ["5", "null", "[1]", '"x"', '{"a": 1e999}', DEEP, '{"x-a": null}'], ids=lambda v: v[:8]
)
@pytest.mark.quick_variants(4)
def test_malformed_headers_and_parameters_stop_the_pipeline_and_no_program(
    synced: Synced, write: Write, column: str, value: str
) -> None:
    try:
        write(**{column: value})
    except psycopg.errors.CheckViolation:
        return
    reason = works(synced)
    assert reason.startswith(column)
    assert stays_unsent(synced)
    write(**{column: "{}"})
    synced.run("UPDATE pgvector_sync.pipeline SET state = 'active', reason = NULL, retry_at = NULL")
    assert works(synced) == ""
    assert not stays_unsent(synced)


UNREADABLE_INPUTS = (
    *("5", "null", "[1]", '"x"', '{"x": 1}', '{"prefix": 5}', '{"prefix": null}', '{"body": 5}', '{"body": null}'),
    *('{"model": 5}', f'{{"prefix": "{"x" * 4_001}"}}', f'{{"body": {{"x": {DEEP}}}}}'),
)


def test_no_program_meets_documents_or_queries_that_it_cant_read(synced: Synced) -> None:
    synced.run(DOCS)
    synced.pipeline()
    refusals = (
        psycopg.errors.CheckViolation,
        psycopg.errors.InvalidParameterValue,
        psycopg.errors.StatementTooComplex,
    )
    for column in ("document", "query"):
        for value in UNREADABLE_INPUTS:
            with synced.database.connect() as connection, pytest.raises(refusals):
                connection.execute(f"UPDATE pgvector_sync.pipeline SET {column} = %s", [value])


@pytest.mark.parametrize("path", ["{tmp}/pipe.pem", "/dev/zero", "/etc/passwd"])
def test_no_file_of_the_worker_becomes_an_authority_or_is_even_opened(
    synced: Synced, write: Write, tmp_path: Path, path: str
) -> None:
    os.mkfifo(tmp_path / "pipe.pem")  # opening it would wait for a writer
    write(ca_file=path.format(tmp=tmp_path))
    reason = works(synced, ca_files="/etc/ours.pem")
    assert reason.startswith("this environment does not allow the file in ca_file of test;")
    assert "; in the workers' environment: if its authorities may vouch" in reason
    assert stays_unsent(synced)


def test_what_is_not_a_path_is_not_part_of_a_command(synced: Synced, write: Write) -> None:
    write(ca_file="/etc/ca.pem\n$(touch x)")
    assert "isn't an absolute path" in works(synced)
    assert "touch" not in works(synced)


def test_no_proxy_gets_anything_that_the_environment_does_not_allow(synced: Synced, write: Write) -> None:
    with ConnectProxy() as proxy:
        write(base_url="https://models.example/v1", proxy=proxy.url)
        reason = works(synced, allowed="models.example=TEST_KEY")
    assert "does not allow calls over http to 127.0.0.1" in reason
    assert proxy.heads == []


@pytest.mark.slow
def test_a_login_for_a_proxy_is_sent_to_that_proxy_alone(
    synced: Synced, write: Write, elsewhere: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROXY_LOGIN", f"me:{SECRET}")
    root = elsewhere.base_url.removesuffix("/v1")
    write(base_url="https://models.example/v1", proxy=root)
    works(synced, allowed=f"models.example=TEST_KEY,{root},http://proxy.example:3128=PROXY_LOGIN")
    assert elsewhere.requests
    assert all(head.startswith("CONNECT models.example:443 ") for head in elsewhere.requests)
    assert "authorization" not in "".join(elsewhere.requests).lower()


def test_an_allowed_endpoint_gets_no_key_of_another_by_being_made_its_proxy(
    synced: Synced, write: Write, elsewhere: Hostile
) -> None:
    root = elsewhere.base_url.removesuffix("/v1")
    write(base_url="http://models.example/v1", proxy=root)
    reason = works(synced, allowed=f"http://models.example=TEST_KEY,{root}")
    assert "its proxy 127.0.0.1" in reason
    assert elsewhere.requests == []
