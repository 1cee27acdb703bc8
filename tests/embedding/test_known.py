"""What is known about hosts: found by the address alone, each with a source, none contradicting itself."""

from __future__ import annotations

import pytest

from pgvector_sync.embedding.dialects.known import KNOWN, UNKNOWN, Known, known_by

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
