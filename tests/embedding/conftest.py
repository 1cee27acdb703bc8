from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pgvector_sync.embedding.embedder import Embedder, Embeddings, open_embedder
from pgvector_sync.model import Provider, Spec
from pgvector_sync.settings import Settings
from support.endpoint import ALLOWED_HOSTS, Endpoint
from support.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SPEC = Spec("text-embedding-3-small", 64)


class Caller:
    """Calls one provider at one endpoint."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder

    def __call__(self, texts: Sequence[str], spec: Spec = SPEC, *, seconds: float = 20.0) -> Embeddings:
        return self.embedder.embed(texts, spec, deadline=within(seconds))


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def open_caller() -> Iterator[Callable[..., Caller]]:
    """Opens providers at a base URL; takes `environ`, `timeout` and any field of Provider."""
    opened: list[Embedder] = []

    def open_one(base_url: str, *, environ: Any = None, timeout: float = 10.0, **fields: Any) -> Caller:
        settings = Settings(
            _env_file=None,
            openai_base_url=None,
            allowed_hosts=f"{ALLOWED_HOSTS},https://127.0.0.1=TEST_KEY",
            provider_timeout=timedelta(seconds=timeout),
        )
        provider = replace(Provider("test", base_url=base_url, api_key_env="TEST_KEY"), **fields)
        opened.append(open_embedder(provider, settings, {"TEST_KEY": "test-key"} if environ is None else environ))
        return Caller(opened[-1])

    yield open_one
    for embedder in opened:
        embedder.close()


@pytest.fixture
def embed(endpoint: Endpoint, open_caller: Callable[..., Caller]) -> Caller:
    return open_caller(endpoint.base_url)
