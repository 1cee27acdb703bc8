"""What is known about hosts: found by the address alone, each with a source, none contradicting itself."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from pgvector_sync.embedding.dialects import dialect_named
from pgvector_sync.embedding.dialects.http import HttpDialect
from pgvector_sync.embedding.dialects.known import KNOWN, UNKNOWN, Known, known_by
from pgvector_sync.embedding.embedder import open_embedder
from pgvector_sync.model import Provider, Purpose, Spec
from pgvector_sync.settings import Settings
from support.endpoint import Endpoint
from support.waiting import within

HOSTS = [host for known in KNOWN for host in known.hosts]


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_is_recognized_whatever_its_port_path_or_case(host: str) -> None:
    name = f"workspace{host}" if host.startswith(".") else host
    for address in (f"https://{name}/v1", f"HTTPS://{name.upper()}:443/a/b", f"http://{name}:8080"):
        assert host in known_by(address).hosts


@pytest.mark.parametrize(
    "address",
    [
        None,
        "",
        "https://api.openai.com/v1",
        "http://localhost:11434/v1",
        "https://api.voyageai.com.evil.example/v1",
        "https://evil.example/api.voyageai.com",
        "https://maas.aliyuncs.com/v1",
        "https://[::1/v1",
    ],
)
def test_nothing_is_known_about_any_other_host(address: str | None) -> None:
    assert known_by(address) is UNKNOWN


def test_no_host_is_listed_twice() -> None:
    assert len(set(HOSTS)) == len(HOSTS)


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.hosts[0])
def test_what_is_known_names_a_source_and_differs_from_openai(known: Known) -> None:
    assert known.sources
    assert all(source.startswith("https://") for source in known.sources)
    assert known != Known(known.hosts, known.sources)
    limits = known.max_inputs, known.max_request_tokens, known.max_input_tokens
    assert all(limit is None or limit > 0 for limit in limits)
    if known.max_request_tokens and known.max_input_tokens:
        assert known.max_input_tokens <= known.max_request_tokens


def sent(address: str, **settings: Any) -> dict[str, object]:
    """The parameters of a request to an address, without its texts and its model."""
    dialect = dialect_named("openai")
    assert isinstance(dialect, HttpDialect)
    provider = Provider("some", base_url=address, **settings)
    body = dict(dialect.request(["text"], Spec("some-model", 256), Purpose.DOCUMENT, provider).body)
    assert (body.pop("input"), body.pop("model")) == (["text"], "some-model")
    return body


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://api.openai.com/v1", {"dimensions": 256, "encoding_format": "base64"}),
        ("https://api.voyageai.com/v1", {"output_dimension": 256, "encoding_format": "base64"}),
        ("https://api.mistral.ai/v1", {"output_dimension": 256, "encoding_format": "float"}),
        (
            "https://generativelanguage.googleapis.com/v1beta/openai",
            {"dimensions": 256, "encoding_format": "float"},
        ),
        ("https://api.jina.ai/v1", {"dimensions": 256}),
        ("https://api.together.xyz/v1", {}),
    ],
)
def test_a_known_host_gets_the_parameters_that_it_expects(address: str, expected: dict[str, object]) -> None:
    assert sent(address) == expected


def test_a_setting_takes_precedence_over_what_is_known() -> None:
    jina = "https://api.jina.ai/v1"
    assert sent(jina, encoding="float", dimensions_parameter="none") == {"encoding_format": "float"}
    limits = dialect_named("openai").limits(Provider("jina", base_url=jina, max_inputs=7))
    assert (limits.max_inputs, limits.max_input_tokens, limits.max_request_tokens) == (7, 8_192, 300_000)


def test_what_is_known_holds_for_the_host_that_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENAI_BASE_URL replaces the address in the file, as in a test environment with another service."""
    here = Known(hosts=("127.0.0.1",), sources=(), encoding="float", dimensions_parameter="none", max_inputs=2)
    monkeypatch.setattr("pgvector_sync.embedding.dialects.known.KNOWN", (here,))
    with Endpoint() as endpoint:
        settings = Settings(_env_file=None, openai_base_url=endpoint.base_url)
        provider = Provider("openai", base_url="https://api.openai.com/v1", api_key_env="OPENAI_API_KEY")
        with closing(open_embedder(provider, settings, {"OPENAI_API_KEY": "test-key"})) as embedder:
            embedder.embed(["a", "b", "c"], Spec("text-embedding-3-small", 1_536), deadline=within(20))
        assert endpoint.calls.bodies == [{"model": "text-embedding-3-small", "encoding_format": "float"}] * 2
