"""The tests' own endpoint: as strict as the real one, and controllable from another process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx2
import numpy as np
import pytest

from support.endpoint import Limit, vector_of
from support.waiting import eventually

KEY = {"Authorization": "Bearer test-key"}
GOOD = {"model": "text-embedding-3-small", "input": ["a"]}


def post(endpoint, body, headers=KEY):
    return httpx2.post(f"{endpoint.base_url}/embeddings", json=body, headers=headers, trust_env=False)


def test_vectors_tell_their_text():
    assert np.array_equal(vector_of("a", 1536), vector_of("a", 1536))
    assert abs(vector_of("a", 1536) @ vector_of("b", 1536)) < 0.2
    assert np.linalg.norm(vector_of("a", 64)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"model": "gpt-5"}, 404, "model_not_found"),
        ({"input": [""]}, 400, "invalid_input"),
        ({"input": []}, 400, "invalid_input"),
        ({"input": ["a"] * 2_049}, 400, "array_above_max_length"),
        ({"input": ["a" * 40_000]}, 400, "context_length_exceeded"),
        ({"input": ["a" * 32_000] * 40}, 400, "max_tokens_per_request"),
        ({"dimensions": 0}, 400, "invalid_dimensions"),
        ({"dimensions": "64"}, 400, "invalid_dimensions"),
        ({"encoding_format": "hex"}, 400, "invalid_encoding_format"),
        ({"timeout": 3}, 400, "unknown_parameter"),
    ],
)
def test_it_refuses_what_the_real_one_refuses(endpoint, change, status, code):
    answer = post(endpoint, GOOD | change)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_it_requires_the_key(endpoint):
    assert post(endpoint, GOOD, {}).status_code == 401
    assert post(endpoint, GOOD).status_code == 200


def test_as_a_process_it_is_controlled_over_http():
    from support import endpoint as module

    command = [sys.executable, str(Path(module.__file__)), "--latency-ms", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        base_url = json.loads(process.stdout.readline())["base_url"]
        root = base_url.removesuffix("/v1")
        try:
            with httpx2.Client(headers=KEY, trust_env=False) as client:
                client.post(
                    f"{root}/_control", json={"kind": "status", "status": 503, "times": 1, "latency_ms": 0}
                )
                statuses = [client.post(f"{base_url}/embeddings", json=GOOD).status_code for _ in range(2)]
                client.post(f"{root}/_control", json={"kind": "nan"})
                client.post(f"{root}/_control", json={"heal": True})
                answer = client.post(f"{base_url}/embeddings", json=GOOD).json()
                calls = client.get(f"{root}/_calls").json()
        finally:
            process.terminate()
    assert statuses == [503, 200]
    assert np.allclose(answer["data"][0]["embedding"], vector_of("a", 1536))
    assert calls == {"requests": 3, "answered": 2, "inputs": 3, "tokens": 3, "most_per_text": 3}


def test_nothing_that_a_test_has_set_outlives_a_reset(endpoint):
    post(endpoint, GOOD)
    endpoint.api_key, endpoint.latency, endpoint.limit = "another-key", 30.0, Limit(requests_per_minute=1)
    endpoint.fail("hang")
    endpoint.behave("refuses_encoding", "at_most_0_inputs")
    endpoint.reset()
    assert endpoint.calls.totals == dict.fromkeys(endpoint.calls.totals, 0)
    assert [post(endpoint, GOOD).status_code for _ in range(3)] == [200, 200, 200]


def test_a_failed_test_shows_the_requests_of_the_endpoint(endpoint):
    post(endpoint, GOOD)
    endpoint.fail(status=503, times=2)
    assert "'requests': 1" in str(endpoint)
    assert "status=503" in str(endpoint)
    eventually(lambda: "longest stall 0.0 s" not in str(endpoint))  # its loop turns twenty times per second


def test_a_quirk_that_does_not_exist_is_noticed(endpoint):
    with pytest.raises(ValueError, match="no such quirk: refuses_bas64"):
        endpoint.behave("gzip", "refuses_bas64")
    assert endpoint.quirks == ()
