from __future__ import annotations

import pytest

from pgvector_sync.embedding.hosts import address_of, allowed_hosts, check_address
from pgvector_sync.errors import Misconfigured
from pgvector_sync.model import Provider
from pgvector_sync.settings import Settings


def settings(**values):
    return Settings(_env_file=None, **{"openai_base_url": None, **values})


@pytest.mark.parametrize(
    "address",
    [
        "https://api.openai.com/v1",
        "https://API.OpenAI.com/v1",
        "https://proxy.example:8443/openai/v1",
        "https://one.example/v1",
        "https://two.example",
        "http://localhost:11434/v1",
        "http://127.0.0.1:8080/v1",
        "http://[::1]:8080/v1",
    ],
)
def test_openai_the_base_url_the_named_hosts_and_loopback_are_allowed(address):
    named = settings(
        openai_base_url="https://proxy.example:8443/openai/v1", allowed_hosts="one.example, Two.example"
    )
    check_address(address, allowed_hosts(named))


def test_any_other_host_is_refused_with_the_way_to_allow_it():
    with pytest.raises(Misconfigured) as caught:
        check_address("https://evil.example/v1", allowed_hosts(settings()))
    assert "evil.example" in str(caught.value)
    assert "PGVECTOR_SYNC_ALLOWED_HOSTS" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "address",
    [
        "https://api.openai.com.evil.example/v1",
        "https://evil.example/api.openai.com",
        "https://api.openai.com@evil.example/v1",
        "https://api.openai.com\\@evil.example/v1",
        "https://evil.example#api.openai.com",
        "https://user:secret@api.openai.com/v1",
        "https://api.openai.com /v1",
        "https://api.openai.com/v1\n",
        "https://\uff41pi.openai.com/v1",
        "ftp://api.openai.com/v1",
        "file:///etc/passwd",
        "api.openai.com",
        "https://127.1/v1",
        "http://2130706433/v1",
        "",
    ],
)
def test_no_spelling_smuggles_a_host_in(address):
    with pytest.raises(Misconfigured) as caught:
        check_address(address, allowed_hosts(settings()))
    assert "secret" not in str(caught.value)


def test_http_is_for_loopback_and_hosts_named_with_it():
    with pytest.raises(Misconfigured) as caught:
        check_address("http://api.openai.com/v1", allowed_hosts(settings(allowed_hosts="ollama")))
    assert caught.value.code == "https_required"
    named = allowed_hosts(settings(allowed_hosts="ollama, http://tei:8080, https://vllm, HTTP://Model.Local/"))
    for address in ("http://tei:8080/v1", "https://tei:8080", "http://model.local/v1", "http://model.local:99/v1"):
        check_address(address, named)
    for address in ("http://ollama:11434/v1", "http://vllm/v1"):
        with pytest.raises(Misconfigured, match="over http") as caught:
            check_address(address, named)
        assert "PGVECTOR_SYNC_ALLOWED_HOSTS=http://" in caught.value.hint


def test_a_port_that_is_named_is_the_only_one():
    named = allowed_hosts(settings(allowed_hosts="one.example:8443, http://tei:8080"))
    check_address("https://one.example:8443/v1", named)
    for address in ("https://one.example/v1", "http://tei/v1", "http://tei:8081"):
        with pytest.raises(Misconfigured):
            check_address(address, named)


def test_the_base_url_of_the_environment_names_its_host_with_its_scheme():
    named = allowed_hosts(settings(openai_base_url="http://ollama:11434/v1"))
    check_address("http://ollama:11434/v1", named)
    check_address("http://ollama/other", named)


@pytest.mark.parametrize("address", ["http://127.0.0.2:1/v1", "http://127.255.255.254/v1", "http://[0:0::1]/v1"])
def test_all_of_loopback_is_loopback(address):
    check_address(address, allowed_hosts(settings()))


@pytest.mark.parametrize("address", ["https://h.example/v1/embeddings", "http://127.0.0.1/embeddings/"])
def test_an_address_without_the_endpoint_is_wanted(address):
    with pytest.raises(Misconfigured, match="OPENAI_BASE_URL ends in /embeddings"):
        check_address(address, allowed_hosts(settings()), setting="OPENAI_BASE_URL")


def test_a_nonsense_entry_allows_nothing():
    default = allowed_hosts(settings())
    assert allowed_hosts(settings(allowed_hosts=", ,[", openai_base_url="https://[")) == default


def test_the_base_url_of_the_environment_wins_for_the_default_key_only():
    elsewhere = settings(openai_base_url="https://proxy.example/v1")
    default = Provider("openai", base_url="https://api.openai.com/v1", api_key_env="OPENAI_API_KEY")
    other = Provider("voyage", base_url="https://api.voyage.example/v1", api_key_env="VOYAGE_API_KEY")
    assert address_of(default, elsewhere) == "https://proxy.example/v1"
    assert address_of(default, settings()) == "https://api.openai.com/v1"
    assert address_of(other, elsewhere) == "https://api.voyage.example/v1"
