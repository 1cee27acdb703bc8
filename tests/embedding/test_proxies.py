"""`proxy`: calls go through the provider's own proxy, which the environment must allow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from trustme import CA

from pgvector_sync.embedding.dialects import dialect_of
from pgvector_sync.embedding.embedder import Embeddings, open_embedder
from pgvector_sync.errors import Misconfigured, ProviderError, Unavailable
from pgvector_sync.model import Provider, Spec
from pgvector_sync.settings import Settings
from support.connect_proxy import ConnectProxy
from support.endpoint import Endpoint
from support.tls_front import TlsFront, server_context
from support.waiting import within

SPEC = Spec("text-embedding-3-small", 8)
TEXT = "a text that no proxy reads"


@pytest.fixture(scope="module")
def authority() -> CA:
    return CA()


@pytest.fixture
def ca_file(authority: CA, tmp_path: Path) -> str:
    path = tmp_path / "private-ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture
def front(endpoint: Endpoint, authority: CA) -> Iterator[TlsFront]:
    """The endpoint over TLS, as models.example, which only the proxy resolves."""
    context = server_context(authority, "models.example")
    with TlsFront(urlsplit(endpoint.base_url).port or 0, context, postgres=False) as front:
        yield front


def call(
    base_url: str, proxy: str, *, allowed: str, ca_file: str = "", environ: Any = None, **fields: Any
) -> Embeddings:
    provider = Provider(
        "test", base_url=base_url, api_key_env="TEST_KEY", proxy=proxy, ca_file=ca_file or None, **fields
    )
    settings = Settings(_env_file=None, openai_base_url=None, allowed_hosts=allowed, ca_files=ca_file)
    embedder = open_embedder(provider, settings, {"TEST_KEY": "test-key", **(environ or {})})
    try:
        return embedder.embed([TEXT], SPEC, deadline=within(20))
    finally:
        embedder.close()


def failure(*args: Any, **how: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        call(*args, **how)
    return caught.value


MODELS = "models.example=TEST_KEY"


def test_over_https_the_proxy_opens_a_tunnel_and_reads_neither_text_nor_key(front: TlsFront, ca_file: str) -> None:
    base_url = f"https://models.example:{front.port}/v1"
    with ConnectProxy() as proxy:
        found = call(
            base_url, proxy.url, allowed=f"{MODELS},{proxy.url}", ca_file=ca_file, headers={"X-Team": "ours"}
        )
    assert found.vectors.shape == (1, 8)
    assert [head.split("\r\n")[0] for head in proxy.heads] == [f"CONNECT models.example:{front.port} HTTP/1.1"]
    for secret in (TEXT, "test-key", "x-team", "authorization"):
        assert secret.encode() not in bytes(proxy.seen).lower()


def test_over_http_the_proxy_reads_everything_so_it_needs_the_key_bound_to_it(endpoint: Endpoint) -> None:
    base_url = f"http://models.example:{urlsplit(endpoint.base_url).port}/v1"
    with ConnectProxy() as proxy:
        error = failure(base_url, proxy.url, allowed=f"http://{MODELS},{proxy.url}")
        assert (error.code, error.option, error.elsewhere) == ("key_not_bound", "proxy", True)
        assert f"{proxy.url}=TEST_KEY" in str(error.hint)
        assert proxy.heads == []
        assert call(base_url, proxy.url, allowed=f"http://{MODELS},{proxy.url}=TEST_KEY").vectors.shape == (1, 8)
        assert TEXT.encode() in bytes(proxy.seen)
    assert endpoint.calls.requests == 1


def test_the_proxy_of_the_provider_replaces_those_of_the_environment(
    front: TlsFront, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base_url = f"https://models.example:{front.port}/v1"
    with ConnectProxy() as proxy, ConnectProxy() as other:
        monkeypatch.setenv("HTTPS_PROXY", other.url)
        monkeypatch.setenv("NO_PROXY", "models.example")
        call(base_url, proxy.url, allowed=f"{MODELS},{proxy.url}", ca_file=ca_file)
    assert (len(proxy.heads), len(other.heads)) == (1, 0)


def test_a_login_comes_from_the_variable_that_is_bound_to_the_proxy(front: TlsFront, ca_file: str) -> None:
    base_url = f"https://models.example:{front.port}/v1"
    with ConnectProxy(login="me:hunter2:x") as proxy:
        allowed = f"{MODELS},{proxy.url}=PROXY_LOGIN"
        how: dict[str, Any] = {"allowed": allowed, "ca_file": ca_file}
        call(base_url, proxy.url, environ={"PROXY_LOGIN": "me:hunter2:x"}, **how)
        assert proxy.logins == ["me:hunter2:x"]
        for environ in ({"PROXY_LOGIN": "me:hunter3"}, {"PROXY_LOGIN": "hunter4"}, {}):
            error = failure(base_url, proxy.url, environ=environ, **how)
            assert (type(error), error.code) == (Misconfigured, "proxy")
            assert "=PROXY_LOGIN" in str(error.hint)
            assert "hunter" not in f"{error} {error.hint}"
        assert proxy.logins[1:] == ["me:hunter3", "", ""]
        how["allowed"] += f",{proxy.url}=OTHER"
        several = failure(base_url, proxy.url, environ={"PROXY_LOGIN": "a:b", "OTHER": "c:d"}, **how)
        assert "OTHER, PROXY_LOGIN" in str(several)
        call(base_url, proxy.url, environ={"PROXY_LOGIN": "me:hunter2:x", "OTHER": "a key"}, **how)


def test_over_http_a_proxy_takes_the_same_login_and_says_the_same_without_it(endpoint: Endpoint) -> None:
    base_url = f"http://models.example:{urlsplit(endpoint.base_url).port}/v1"
    with ConnectProxy(login="me:hunter2") as proxy:
        allowed = f"http://{MODELS},{proxy.url}=TEST_KEY,{proxy.url}=PROXY_LOGIN"
        error = failure(base_url, proxy.url, allowed=allowed)
        assert isinstance(error, Misconfigured)
        assert str(error) == "the proxy requires a valid user and password (407)"
        assert "=PROXY_LOGIN" in str(error.hint)
        call(base_url, proxy.url, allowed=allowed, environ={"PROXY_LOGIN": "me:hunter2"})
    assert proxy.logins == ["", "me:hunter2"]
    assert endpoint.calls.requests == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [("407 X", Misconfigured), ("403 X", Misconfigured), ("502 X", Unavailable), ("429 X", Unavailable)],
)
def test_a_proxy_that_refuses_is_named_and_not_the_provider(
    front: TlsFront, ca_file: str, status: str, kind: type[ProviderError]
) -> None:
    with ConnectProxy(refuses=status) as proxy:
        base_url = f"https://models.example:{front.port}/v1"
        error = failure(base_url, proxy.url, allowed=f"{MODELS},{proxy.url}", ca_file=ca_file)
    assert (type(error), error.code) == (kind, "proxy")
    assert str(error).startswith("the proxy ")
    assert status[:3] in str(error)


def test_a_proxy_that_is_down_is_named(front: TlsFront, ca_file: str) -> None:
    with ConnectProxy() as proxy:
        pass
    base_url = f"https://models.example:{front.port}/v1"
    error = failure(base_url, proxy.url, allowed=f"{MODELS},{proxy.url}", ca_file=ca_file)
    assert type(error) is Unavailable
    assert "the proxy of test" in str(error.hint)


def test_the_place_of_a_provider_names_its_proxy_for_doctor() -> None:
    provider = Provider("test", base_url="https://models.example/v1", proxy="http://proxy.example:3128")
    place = dialect_of(provider).place(provider, Settings(_env_file=None, openai_base_url=None))
    assert place == "https://models.example/v1 through http://proxy.example:3128"


# -- without a call ------------------------------------------------------------------------------------------


def refusal(proxy: str, allowed: str = "", base_url: str = "https://models.example/v1") -> Misconfigured:
    provider = Provider("test", base_url=base_url, proxy=proxy)
    settings = Settings(_env_file=None, openai_base_url=None, allowed_hosts=f"models.example,{allowed}")
    with pytest.raises(Misconfigured) as caught:
        dialect_of(provider).check_provider(provider, settings)
    return caught.value


@pytest.mark.parametrize(
    ("proxy", "allowed"),
    [
        ("http://proxy.example:3128", ""),
        ("http://proxy.example:3128", "proxy.example:3128"),
        ("http://proxy.example:3128", "http://proxy.example:3129,http://other.example"),
        ("http://proxy.example", "http://proxy.example:3128"),
        ("http://127.0.0.1:3128", "http://localhost:3128"),
    ],
)
def test_a_proxy_that_the_environment_does_not_allow_is_refused_with_the_line_that_does(
    proxy: str, allowed: str
) -> None:
    error = refusal(proxy, allowed)
    assert (error.code, error.option, error.elsewhere) == ("host_not_allowed", "proxy", True)
    assert f",{proxy}" in str(error.hint)


@pytest.mark.parametrize(
    "proxy",
    [
        *(
            "http://me:secret@proxy.example:3128",
            "https://proxy.example",
            "socks5://proxy.example",
            "proxy.example",
        ),
        *("http://proxy.example/path", "http://proxy.example:0", "http://proxy.example:99999", "http://", ""),
        *("http://a\\@proxy.example", "http://proxy.example?x", "http://proxy.example\r\nX: secret"),
    ],
)
def test_what_is_not_the_url_of_a_proxy_is_refused_and_not_shown(proxy: str) -> None:
    error = refusal(proxy, "http://proxy.example")
    assert (error.code, error.option, error.elsewhere) == ("bad_proxy", "proxy", False)
    assert "secret" not in f"{error} {error.hint}"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_proxy_is_not_asked_for_the_workers_own_machine(host: str) -> None:
    address = f"http://{host}:8080/v1"
    error = refusal("http://proxy.example", f"http://proxy.example,http://{host}", address)
    assert (error.code, error.option) == ("proxy_and_loopback", "proxy")
