"""Pipelines at providers' own APIs: rows are embedded as documents, one bad row is parked, and search sends a query."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from pgvector_sync.observe.search import nearest
from support.endpoint import vector_of
from support.native_apis import Cohere, Gemini, Voyage
from support.native_endpoint import Api, NativeEndpoint
from support.synced import DOCS, Synced

TOO_LONG = {
    "cohere": {"message": "too many tokens: total number of tokens in the input cannot exceed 128000"},
    "voyage": {"detail": "The example at index 0 in your batch does not fit into the model's context window"},
    "gemini": {
        "error": {"code": 400, "message": "The input token count exceeds it", "status": "INVALID_ARGUMENT"}
    },
}


@pytest.fixture(
    params=[
        (Cohere, "embed-v4.0", "input_type", "search_query"),
        pytest.param((Voyage, "voyage-4", "input_type", "query"), marks=pytest.mark.slow),
        pytest.param((Gemini, "gemini-embedding-001", "taskType", "RETRIEVAL_QUERY"), marks=pytest.mark.slow),
    ],
    ids=lambda param: param[0].dialect,
)
def native(request: pytest.FixtureRequest) -> tuple[type[Api], str, str, str]:
    param: tuple[type[Api], str, str, str] = request.param
    return param


@pytest.fixture
def endpoint(native: tuple[type[Api], str, str, str]) -> Iterator[NativeEndpoint]:
    api = native[0]()
    api.key = "test-key"
    with NativeEndpoint(api) as endpoint:
        yield endpoint


def test_a_pipeline_at_a_providers_own_api(
    synced: Synced, endpoint: NativeEndpoint, native: tuple[type[Api], str, str, str]
) -> None:
    api, model, parameter, query = native
    synced.run(DOCS, "INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, 20) i")
    synced.run("UPDATE docs SET body = 'poison' WHERE id = 7")
    synced.declare(model=model, dimensions=256)
    synced.apply()
    synced.run(f"UPDATE pgvector_sync.provider SET dialect = '{api.dialect}', base_url = '{endpoint.base_url}'")
    endpoint.fail(400, TOO_LONG[api.dialect], marker="poison")
    synced.settle()
    synced.covered()
    vectors = synced.vectors()
    assert vectors.keys() == {(i,) for i in range(1, 21) if i != 7}
    assert np.allclose([vectors[i,] for i in (1, 20)], [vector_of(f"text {i}", 256) for i in (1, 20)], atol=1e-6)
    assert synced.dead() == [([7], "input_rejected")]
    message = synced.database.value("SELECT error_message FROM pgvector_sync.work WHERE verdict = 'dead'")
    assert message in {
        "the provider rejected the input (400 too_many_tokens)",
        "the provider rejected the input (400 context_length_exceeded)",
    }
    assert [hit.key for hit in nearest(synced.runtime, "docs", "text 3", k=1)] == [(3,)]
    body = endpoint.exchanges[-1].body
    assert body.get("requests", [{"embedContentConfig": body}])[0]["embedContentConfig"][parameter] == query
    assert endpoint.exchanges[-1].texts == ["text 3"]
