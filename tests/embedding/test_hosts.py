from __future__ import annotations

import pytest
from pydantic import ValidationError

from pgvector_sync.embedding.network.hosts import (
    address_of,
    allowed_hosts,
    check_provider,
    is_loopback,
    takes_sdk_headers,
)
from pgvector_sync.errors import Misconfigured
from pgvector_sync.model import Provider
from pgvector_sync.settings import Settings

OPENAI = Provider("openai", base_url="https://api.openai.com/v1", api_key_env="OPENAI_API_KEY")


def settings(**values):
    return Settings(_env_file=None, **{"openai_base_url": None, "allowed_hosts": "", **values})


def check(address, allowed="", key=None, **values):
    provider = Provider("test", base_url=address, api_key_env=key)
    check_provider(provider, settings(allowed_hosts=allowed, **values), endpoint="/embeddings")


def refusal(address, allowed="", key=None, **values):
    with pytest.raises(Misconfigured) as caught:
        check(address, allowed, key, **values)
    return caught.value


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
        "http://[0:0::1]:8080/v1",
    ],
)
def test_openai_the_base_url_and_the_named_hosts_are_allowed(address):
    check(
        address,
        "one.example, Two.example, http://localhost:11434, http://127.0.0.1, http://[::1]:8080",
        openai_base_url="https://proxy.example:8443/openai/v1",
    )


def test_any_other_host_is_refused_with_the_line_that_allows_it():
    error = refusal("https://evil.example/v1", "http://ollama:11434, two.example", key="EVIL_KEY")
    assert error.code == "host_not_allowed"
    assert "evil.example" in str(error)
    assert error.hint == (
        "if evil.example may see your texts and the key in EVIL_KEY: "
        "export PGVECTOR_SYNC_ALLOWED_HOSTS=http://ollama:11434,two.example,evil.example=EVIL_KEY"
    )


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
        "https://api.openai.com./v1",
        "https://api.openai.com:8443/v1",
        "https://\uff41pi.openai.com/v1",
        "ftp://api.openai.com/v1",
        "file:///etc/passwd",
        "api.openai.com",
        "",
    ],
)
def test_no_spelling_smuggles_a_host_in(address):
    assert "secret" not in str(refusal(address))


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST", "127.0.0.1", "127.0.0.2", "127.255.255.254", "[::1]", "[0:0::1]", "0.0.0.0"),
        *("[::]", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
    ],
)
def test_this_machine_is_allowed_only_as_it_is_named(host):
    for scheme in ("http", "https"):
        refusal(f"{scheme}://{host}:8080/v1", "http://10.0.0.1")
    named = f"http://{host}:8080"
    check(f"http://{host}:8080/v1", named)
    refusal(f"http://{host}:8081/v1", named)
    refusal("http://127.0.0.9:8080/v1", named)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::ffff:127.0.0.1", "::"]
)
def test_all_of_loopback_is_loopback(host):
    assert is_loopback(host)
    assert not is_loopback("10.0.0.1")


def test_this_machine_needs_no_encryption_to_be_named():
    error = refusal("http://127.0.0.1:8080/v1")
    assert error.code == "host_not_allowed"
    assert error.hint.endswith("export PGVECTOR_SYNC_ALLOWED_HOSTS=http://127.0.0.1:8080")


def test_http_is_for_hosts_named_with_it():
    assert refusal("http://api.openai.com/v1", "ollama").code == "https_required"
    named = "ollama, http://tei:8080, https://vllm, HTTP://Model.Local/"
    for address in ("http://tei:8080/v1", "https://tei:8080", "http://model.local/v1", "http://model.local:99/v1"):
        check(address, named)
    for address in ("http://ollama:11434/v1", "http://vllm/v1"):
        error = refusal(address, named)
        assert "over http" in str(error)
        assert error.hint.endswith(f",{address.removesuffix('/v1')}")


def test_a_port_that_is_named_is_the_only_one():
    named = "one.example:8443, http://tei:8080"
    check("https://one.example:8443/v1", named)
    for address in ("https://one.example/v1", "http://tei/v1", "http://tei:8081"):
        refusal(address, named)


def test_the_base_url_of_the_environment_names_its_host_with_its_scheme_and_port():
    named = "http://ollama:11434/v1"
    check("http://ollama:11434/other", openai_base_url=named)
    for address in ("http://ollama/v1", "http://ollama:22/v1"):
        refusal(address, openai_base_url=named)


@pytest.mark.parametrize("address", ["https://h.example/v1/embeddings", "http://127.0.0.1/embeddings/"])
def test_an_address_must_not_contain_the_endpoint(address):
    assert str(refusal(address, "h.example")).startswith("base_url of test ends in /embeddings")


@pytest.mark.parametrize(
    "entry",
    [
        *("[", "https://me:secret@host", "me:secret@host", "a=b=c", "x.example=", "x.example=A B", "x.example/v1"),
        *("x.example:0", "x.example:99999", "http://x.example;y.example", "ftp://x.example", "*.example"),
    ],
)
def test_an_entry_that_cant_be_read_is_refused_by_its_place(entry):
    with pytest.raises(ValidationError, match="entry 3 is none of these") as caught:
        settings(allowed_hosts=f"one.example,,{entry},two.example")
    assert "secret" not in str(caught.value)


def test_an_empty_entry_and_an_invalid_base_url_allow_nothing():
    nothing = settings(allowed_hosts=", ,", openai_base_url="https://[")
    assert allowed_hosts(nothing) == allowed_hosts(settings())


def test_the_base_url_of_the_environment_wins_for_the_default_key_only():
    elsewhere = settings(openai_base_url="https://proxy.example/v1")
    other = Provider("voyage", base_url="https://api.voyage.example/v1", api_key_env="VOYAGE_API_KEY")
    assert address_of(OPENAI, elsewhere) == "https://proxy.example/v1"
    assert address_of(OPENAI, settings()) == "https://api.openai.com/v1"
    assert address_of(other, elsewhere) == "https://api.voyage.example/v1"


# -- keys ----------------------------------------------------------------------------------------------------


def test_openais_key_goes_to_openai_and_to_the_base_url_of_the_environment():
    assert check_provider(OPENAI, settings(), endpoint="/embeddings") == "https://api.openai.com/v1"
    local = settings(openai_base_url="http://127.0.0.1:4000/v1")
    assert check_provider(OPENAI, local, endpoint="/embeddings") == "http://127.0.0.1:4000/v1"


def test_a_key_goes_only_where_the_environment_binds_it():
    named = "api.voyageai.com=VOYAGE_API_KEY, http://ollama:11434, http://litellm:4000=A, http://litellm:4000=B"
    check("https://api.voyageai.com/v1", named, "VOYAGE_API_KEY")
    check("https://api.voyageai.com/v1", named)
    check("http://ollama:11434/v1", named)
    for key in "AB":
        check("http://litellm:4000/v1", named, key)
    for address, key in [
        ("http://ollama:11434/v1", "VOYAGE_API_KEY"),
        ("http://litellm:4000/v1", "VOYAGE_API_KEY"),
        ("https://api.voyageai.com/v1", "voyage_api_key"),
        ("https://api.voyageai.com/v1", "OPENAI_API_KEY"),
        ("https://api.openai.com/v1", "VOYAGE_API_KEY"),
        ("https://api.openai.com/v1", "OPENAI_ADMIN_KEY"),
    ]:
        error = refusal(address, named, key)
        assert error.code == "key_not_bound"
        assert f"={key}" in error.hint


def test_the_line_replaces_the_entry_that_lacks_the_key():
    error = refusal("https://embeddings.example/v1", "http://ollama:11434,embeddings.example", "VOYAGE_API_KEY")
    assert error.hint == (
        "if embeddings.example may receive the key in VOYAGE_API_KEY: "
        "export PGVECTOR_SYNC_ALLOWED_HOSTS=http://ollama:11434,embeddings.example=VOYAGE_API_KEY"
    )


@pytest.mark.parametrize(
    "key",
    [
        *("DATABASE_URL", "database_url", "REDIS_URL", "PGPASSWORD", "PGSSLKEY", "CELERY_BROKER_URL"),
        *("PGVECTOR_SYNC_REDIS_PREFIX", "OPENAI_BASE_URL", "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_a_variable_without_a_providers_key_is_never_sent_whatever_is_bound(key):
    error = refusal("https://x.example/v1", f"x.example, x.example={key}", key)
    assert error.code == "not_a_key"


@pytest.mark.parametrize("key", ["sk-hunter2", "", "A\nB"])
def test_an_invalid_variable_name_is_neither_sent_nor_shown(key):
    error = refusal("https://x.example/v1", "x.example", key)
    assert error.code == "not_a_key"
    assert "hunter2" not in f"{error} {error.hint}"


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("https://api.cohere.com/v2", "CO_API_KEY"),
        ("https://api.voyageai.com/v1", "VOYAGE_API_KEY"),
        ("https://generativelanguage.googleapis.com/v1beta", "GEMINI_API_KEY"),
    ],
)
def test_a_built_in_host_is_allowed_with_its_own_key_and_no_other_way(address, key):
    """A row of the database can thus send texts there only where a worker's environment holds that key."""
    check(address, key=key)
    assert refusal(address).code == "host_not_allowed"
    for other in ("OPENAI_API_KEY", "STRIPE_KEY", key.lower()):
        assert refusal(address, key=other).code == "key_not_bound"
    for elsewhere in (
        address.replace(".com", ".com:8443"),
        address.replace("https", "http"),
        "https://evil.example",
    ):
        refusal(elsewhere, key=key)
    host = address.split("/")[2]
    check(address, host)
    check(address, f"{host}=MY_KEY", "MY_KEY")
    assert not takes_sdk_headers(address, settings())


def test_what_the_sdk_reads_from_the_environment_is_for_openai():
    assert takes_sdk_headers("https://api.openai.com/v1", settings())
    assert not takes_sdk_headers("https://x.example/v1", settings(allowed_hosts="x.example=OPENAI_API_KEY"))
    local = settings(openai_base_url="http://127.0.0.1:4000/v1")
    assert takes_sdk_headers("http://127.0.0.1:4000/v1", local)
    assert not takes_sdk_headers("http://127.0.0.1:4001/v1", local)
