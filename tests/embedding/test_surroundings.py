"""A certificate or proxy variable that can't work is named, and no stack trace is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgvector_sync.embedding.embedder import open_embedder
from pgvector_sync.errors import Misconfigured
from pgvector_sync.model import Provider, Spec
from pgvector_sync.settings import Settings
from support.waiting import within

VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def failure() -> Misconfigured:
    """Return the error of a call for which no client can be created."""
    provider = Provider("test", base_url="https://api.openai.com/v1", api_key_env="OPENAI_API_KEY")
    embedder = open_embedder(provider, Settings(_env_file=None), {"OPENAI_API_KEY": "key"})
    with pytest.raises(Misconfigured) as caught:
        embedder.embed(["text"], Spec("text-embedding-3-small", 8), deadline=within(5))
    return caught.value


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_certificate_file_that_is_missing_or_holds_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "authority.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    caught = failure()
    assert str(caught).startswith("SSL_CERT_FILE doesn't point to certificates")
    assert "unset it" in str(caught.hint)
    assert caught.status is None, "no row's fault"


def test_a_socks_proxy_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("ALL_PROXY", "socks5://user:secret@proxy.example:1080")
    caught = failure()
    assert str(caught) == "ALL_PROXY names a SOCKS proxy, which needs the package socksio"
    assert "secret" not in f"{caught} {caught.hint}"


@pytest.mark.parametrize("value", ["nonsense://proxy:1", "http://[::1"])
def test_an_invalid_proxy_address(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("https_proxy", value)
    assert str(failure()) == "https_proxy isn't a valid proxy address"
