"""Headers of a provider's section: sent with each request, and refused if they hold a secret or frame the message."""

from __future__ import annotations

from typing import Any

import pytest

from pgvector_sync.embedding.embedder import open_embedder
from pgvector_sync.embedding.network.headers import LONGEST_VALUE, MOST, problems
from pgvector_sync.errors import Misconfigured
from pgvector_sync.model import Provider, Spec
from pgvector_sync.settings import Settings
from support.hostile_endpoint import Hostile, answer, whole
from support.waiting import within

SPEC = Spec("m", 8)


def sent(headers: Any, *, allowed: str = "", key: str | None = None, openai: bool = False, **environ: str) -> str:
    """The head of the request that an endpoint receives from a provider with these headers, in lower case."""
    with Hostile(whole(answer(1, 8))) as endpoint:
        settings = Settings(
            _env_file=None,
            openai_base_url=endpoint.base_url if openai else None,
            allowed_hosts=f"http://127.0.0.1{allowed}",
        )
        provider = Provider("test", base_url=endpoint.base_url, api_key_env=key, headers=headers)
        embedder = open_embedder(provider, settings, environ)
        try:
            embedder.embed(["text"], SPEC, deadline=within(20))
        finally:
            embedder.close()
    return endpoint.requests[0].lower()


def refused(headers: Any, **how: Any) -> Misconfigured:
    with pytest.raises(Misconfigured) as caught:
        sent(headers, **how)
    return caught.value


def test_headers_are_sent_with_each_request_and_replace_those_of_the_client() -> None:
    head = sent({"X-Title": "search", "HTTP-Referer": "https://acme.example/app2", "User-Agent": "acme"})
    for line in ("x-title: search", "http-referer: https://acme.example/app2", "user-agent: acme"):
        assert f"\r\n{line}\r\n" in f"{head}\r\n"
    assert "authorization" not in head
    assert head.count("user-agent") == 1


def test_headers_are_sent_to_openai_as_well() -> None:
    head = sent({"X-Title": "search"}, key="OPENAI_API_KEY", openai=True, OPENAI_API_KEY="sk-1")
    assert "\r\nx-title: search" in head
    assert "\r\nauthorization: bearer sk-1" in head


def test_a_secret_header_comes_from_a_variable_that_is_bound_to_the_host() -> None:
    headers = {"api-key": "$AZURE_KEY", "Authorization": "Api-Key $GATEWAY_KEY"}
    allowed = "=AZURE_KEY,http://127.0.0.1=GATEWAY_KEY"
    head = sent(headers, allowed=allowed, AZURE_KEY="a1", GATEWAY_KEY="g1")
    assert "\r\napi-key: a1" in head
    assert "\r\nauthorization: api-key g1" in head
    error = refused(headers, allowed="=AZURE_KEY", AZURE_KEY="a1", GATEWAY_KEY="g1")
    assert (error.code, error.option, error.elsewhere) == ("key_not_bound", "headers", True)
    assert "GATEWAY_KEY" in f"{error} {error.hint}"


@pytest.mark.parametrize(
    ("value", "code"), [(None, "missing_key"), (" ", "missing_key"), ("a\r\nb: c", "bad_key")]
)
def test_a_variable_without_a_usable_value_is_named(value: str | None, code: str) -> None:
    environ = {} if value is None else {"TEAM_KEY": value}
    error = refused({"x-team-key": "$TEAM_KEY"}, allowed="=TEAM_KEY", **environ)
    assert error.code == code
    assert str(error).startswith("TEAM_KEY ")


SECRET = "Kx9f2LmQ8vZt4RwB7nPc"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("Authorization", f"Bearer {SECRET}"),
            ("api-key", "hunter2"),
            ("x-api-key", "hunter2"),
            ("X-Goog-Api-Key", "hunter2"),
        ),
        *(
            ("Ocp-Apim-Subscription-Key", "hunter2"),
            ("private-token", "hunter2"),
            ("x-secret", "hunter2"),
            ("X-Team", SECRET),
        ),
        *(("X-Team", "sk-proj-words-only"), ("X-Team", "eyJhbGciOiJIUzI1NiJ9"), ("X-Team", "Basic dXNlcjpwYXNz")),
        ("X-Team", f"team; key={SECRET}"),
    ],
)
def test_a_secret_in_the_file_is_refused_and_the_message_says_how_to_name_a_variable(
    name: str, value: str
) -> None:
    [(place, message)] = problems({name: value})
    assert place == name
    assert f'"{name}" = "$MY_KEY"' in message
    assert value not in message


@pytest.mark.parametrize(
    "value",
    [
        "search",
        "my-application-v2-production-2026",
        "2026-11-27",
        "https://acme.example/text-embedding-3-small",
        "a, b",
    ],
)
def test_words_numbers_and_addresses_are_no_secrets(value: str) -> None:
    assert not list(problems({"X-Team": value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OpenAI-Organization", "org-8XjK2aQm4LpR7sT9vW1yZ3bN"),
        ("OpenAI-Project", "proj_8XjK2aQm4LpR7sT9vW1yZ3bN"),
        ("x-folder-id", "b1gvmob95yysaplct532"),
        ("X-Tenant", "550e8400-e29b-41d4-a716-446655440000"),
        ("HTTP-Referer", "https://shop.example/search?from=2026"),
        ("cf-aig-metadata", '{"team": "search", "user": 12345}'),
        ("anthropic-version", "2023-06-01"),
        ("Authorization", "Api-Key $YANDEX_API_KEY"),
    ],
)
def test_what_services_ask_for_is_accepted(name: str, value: str) -> None:
    assert not list(problems({name: value}))


@pytest.mark.parametrize("name", ["OpenAI-Project", "X-Tenant"])
def test_a_known_key_is_a_secret_in_place_of_an_identifier_as_well(name: str) -> None:
    assert "expected no secret" in str(list(problems({name: "sk-8XjK2aQm4LpR7sT9vW1yZ3bN"})))


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Host",
            "Connection",
            "Content-Type",
            "content-length",
            "Transfer-Encoding",
            "Proxy-Authorization",
            "TE",
        ),
        *(
            "Upgrade",
            "Expect",
            "Accept-Encoding",
            "Cookie",
            "If-None-Match",
            "X-Forwarded-For",
            "Forwarded",
            "Via",
        ),
        *("X-HTTP-Method-Override", "X-Original-URL", "X-Rewrite-URL", "X-Envoy-Original-Dst-Host", "Destination"),
        *("x-portkey-custom-host", "Helicone-Target-Url", "Helicone-OpenAI-Api-Base", "X-Target_URL"),
    ],
)
def test_headers_that_frame_or_reroute_a_request_are_refused(name: str) -> None:
    [(place, message)] = problems({name: "x"})
    assert place == name
    assert message.startswith("not supported: ")


def test_a_gateways_configuration_names_no_other_host() -> None:
    assert not list(problems({"x-portkey-config": "pc-prod-3f9a1c"}))
    [(_, message)] = problems({"x-portkey-config": '{"custom_host": "https://elsewhere.example"}'})
    assert message.startswith("not supported: ")


@pytest.mark.parametrize(
    "headers",
    [
        *(
            {"X Y": "z"},
            {"X:": "y"},
            {"": "x"},
            {"X\r\nY": "z"},
            {"X-Ü": "z"},
            {"x" * 101: "y"},
            {"X-Y: secret1": "z"},
        ),
        *(
            {"X": ""},
            {"X": " y"},
            {"X": "y "},
            {"X": "y\r\nZ: 1"},
            {"X": "y\0"},
            {"X": "ü"},
            {"X": 5},
            {"X": None},
        ),
        *(
            {"X": "y" * (LONGEST_VALUE + 1)},
            {"X": "$lower"},
            {"X": "Token token=$MY_KEY"},
            {"X": "$"},
            {"X": "$DATABASE_URL"},
            {"X": "$PGPASSWORD"},
        ),
        *({"X-A": "1", "x-a": "2"}, {f"X-{n}": "y" for n in range(MOST + 1)}, None, [], "X: y"),
    ],
    ids=lambda headers: repr(headers)[:40],
)
def test_headers_that_cant_be_sent_stop_the_pipeline_and_nothing_is_sent(headers: Any) -> None:
    found = list(problems(headers))
    assert len(found) == 1
    assert "secret1" not in f"{found}"
    error = refused(headers)
    assert (error.code, error.option) == ("bad_headers", "headers")
    assert str(error).startswith("headers")


def test_no_part_of_a_secret_header_is_shown_as_an_error_code() -> None:
    body = b'{"error": {"code": "team_hunterhunter"}}'
    with Hostile(whole(body, 401)) as endpoint:
        settings = Settings(_env_file=None, openai_base_url=None, allowed_hosts="http://127.0.0.1=TEAM_KEY")
        provider = Provider("test", base_url=endpoint.base_url, headers={"x-team-key": "$TEAM_KEY"})
        embedder = open_embedder(provider, settings, {"TEAM_KEY": "hunterhunter"})
        with pytest.raises(Misconfigured) as caught:
            embedder.embed(["text"], SPEC, deadline=within(20))
        embedder.close()
    assert "hunter" not in f"{caught.value} {caught.value.code} {caught.value.hint}"
