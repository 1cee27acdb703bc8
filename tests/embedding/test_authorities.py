"""`ca_file`: a provider with a certificate of a private authority, at a real TLS endpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError
from trustme import CA

from pgvector_sync.embedding.dialects import dialect_of
from pgvector_sync.embedding.embedder import Embeddings, open_embedder
from pgvector_sync.errors import Misconfigured
from pgvector_sync.model import Provider, Spec
from pgvector_sync.settings import Settings
from support.endpoint import Endpoint
from support.tls_front import TlsFront, server_context
from support.waiting import within

SPEC = Spec("text-embedding-3-small", 8)
Call = Callable[..., Embeddings]


@pytest.fixture(scope="module")
def authority() -> CA:
    return CA()


@pytest.fixture
def ca_file(authority: CA, tmp_path: Path) -> str:
    return pem(authority, tmp_path / "private-ca.pem")


@pytest.fixture
def front(endpoint: Endpoint, authority: CA) -> Iterator[TlsFront]:
    with TlsFront(port_of(endpoint), server_context(authority, "127.0.0.1"), postgres=False) as front:
        yield front


def pem(authority: CA, path: Path) -> str:
    authority.cert_pem.write_to_path(path)
    return str(path)


def port_of(endpoint: Endpoint) -> int:
    return urlsplit(endpoint.base_url).port or 0


def provider_at(front: TlsFront, ca_file: str | None) -> Provider:
    base_url = f"https://127.0.0.1:{front.port}/v1"
    return Provider("test", base_url=base_url, api_key_env="TEST_KEY", ca_file=ca_file)


def settings(*ca_files: str) -> Settings:
    return Settings(
        _env_file=None, openai_base_url=None, allowed_hosts="127.0.0.1=TEST_KEY", ca_files=",".join(ca_files)
    )


def call(front: TlsFront, ca_file: str | None, *allowed: str) -> Embeddings:
    embedder = open_embedder(provider_at(front, ca_file), settings(*allowed), {"TEST_KEY": "test-key"})
    try:
        return embedder.embed(["text"], SPEC, deadline=within(20))
    finally:
        embedder.close()


def failure(front: TlsFront, ca_file: str | None, *allowed: str) -> Misconfigured:
    with pytest.raises(Misconfigured) as caught:
        call(front, ca_file, *allowed)
    return caught.value


def test_a_certificate_of_a_private_authority_is_trusted_with_its_ca_file_only(
    front: TlsFront, endpoint: Endpoint, ca_file: str
) -> None:
    assert call(front, ca_file, ca_file, "/etc/ssl/other.pem").vectors.shape == (1, 8)
    error = failure(front, None, ca_file)
    assert error.code == "certificate"
    assert "ca_file of test" in str(error.hint)
    assert endpoint.calls.requests == 1, "nothing is sent before the certificate is verified"


def test_only_the_authorities_of_the_file_are_trusted(front: TlsFront, tmp_path: Path, ca_file: str) -> None:
    other = pem(CA(), tmp_path / "other.pem")
    error = failure(front, other, other, ca_file)
    assert (error.code, error.option) == ("certificate", "ca_file")
    both = tmp_path / "both.pem"
    both.write_text(Path(other).read_text() + Path(ca_file).read_text())
    assert call(front, str(both), str(both)).vectors.shape == (1, 8)


def test_a_certificate_for_another_name_is_not_trusted(endpoint: Endpoint, authority: CA, ca_file: str) -> None:
    context = server_context(authority, "elsewhere.example")
    with TlsFront(port_of(endpoint), context, postgres=False) as front:
        assert failure(front, ca_file, ca_file).code == "certificate"
    assert endpoint.calls.requests == 0


def test_a_file_that_the_environment_does_not_list_is_not_opened(front: TlsFront, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"  # opening it would wait for a writer
    os.mkfifo(pipe)
    for path in (str(pipe), "/dev/zero", "/etc/shadow", str(tmp_path / "missing.pem")):
        error = failure(front, path, "/etc/ssl/private-ca.pem")
        assert (error.code, error.option, error.elsewhere) == ("ca_not_allowed", "ca_file", True)
        assert path not in str(error)
        assert str(error.hint).endswith(f"export PGVECTOR_SYNC_CA_FILES=/etc/ssl/private-ca.pem,{path}")


@pytest.mark.parametrize("content", [None, "", "no certificate", "directory"])
def test_a_file_without_certificates_is_named_by_its_option(
    front: TlsFront, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "ca.pem"
    if content == "directory":
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    error = failure(front, str(path), str(path))
    assert (error.code, error.option, error.elsewhere) == ("certificates", "ca_file", True)
    assert str(error).startswith("ca_file of test can't be read as PEM certificates")


def test_the_checks_of_apply_say_the_same_without_a_call(
    front: TlsFront, endpoint: Endpoint, ca_file: str
) -> None:
    provider = provider_at(front, ca_file)
    dialect_of(provider).check_provider(provider, settings(ca_file))
    with pytest.raises(Misconfigured) as caught:
        dialect_of(provider).check_provider(provider, settings())
    assert caught.value.code == "ca_not_allowed"
    assert endpoint.calls.requests == 0


def test_a_relative_path_in_the_environment_is_refused_by_its_place() -> None:
    with pytest.raises(ValidationError, match="entry 2 isn't one") as caught:
        settings("/etc/ssl/a.pem", "hunter2.pem")
    assert "hunter2" not in str(caught.value)
