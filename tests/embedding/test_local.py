from __future__ import annotations

import logging
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
import pytest

from pgvector_sync.declare.file import load_config
from pgvector_sync.embedding.embedder import open_embedder
from pgvector_sync.errors import InputRejected, Misconfigured, OutOfTime
from pgvector_sync.model import Provider, Spec
from pgvector_sync.settings import Settings
from support.waiting import within

# Looked for and not imported, since we promise not to import it.
pytestmark = pytest.mark.skipif(find_spec("wordllama") is None, reason="the extra `local` is not installed")

SPEC = Spec("wordllama", 256)
TEXTS = [
    "The cat sleeps on the sofa.",
    "A kitten naps on the couch.",
    "Interest rates rose again this quarter.",
]


@pytest.fixture
def embed():
    embedder = open_embedder(Provider("local", dialect="local"), Settings(_env_file=None), {})

    def embed(texts, spec=SPEC, *, seconds=60.0):
        return embedder.embed(texts, spec, deadline=within(seconds))

    yield embed
    embedder.close()


@pytest.mark.parametrize("dimensions", [64, 128, 256])
def test_texts_that_mean_the_same_are_near_at_every_size(embed, dimensions):
    vectors = embed(TEXTS, Spec("wordllama", dimensions)).vectors
    assert vectors.shape == (3, dimensions)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    near = vectors @ vectors.T
    assert near[0, 1] > near[0, 2] + 0.2
    assert near[0, 1] > near[1, 2] + 0.2


def test_a_vector_does_not_depend_on_its_batch(embed):
    many = [f"{text} {i}" for i in range(50) for text in TEXTS]
    together = embed(many).vectors
    assert np.array_equal(together[77], embed([many[77]]).vectors[0])


def test_tokens_are_counted_and_no_request_is_made(embed):
    answer = embed(["one two three"] * 2)
    assert (answer.tokens, answer.requests) == (6, 0)
    assert embed([]).vectors.shape == (0, 256)


@pytest.mark.parametrize("text", ["\x00", " ", "🙂", "日本語", "\u200b", "a" * 100_000])
def test_any_text_that_is_not_empty_has_a_vector(embed, text):
    assert np.isfinite(embed([text]).vectors).all()


def test_a_text_without_tokens_is_refused_and_not_quoted(embed):
    with pytest.raises(InputRejected) as caught:
        embed(["fine", ""])
    assert "fine" not in str(caught.value)


@pytest.mark.parametrize("dimensions", [1, 255, 512])
def test_an_unsupported_size_is_misconfigured(embed, dimensions):
    with pytest.raises(Misconfigured) as caught:
        embed(TEXTS, Spec("wordllama", dimensions))
    assert "64, 128, 256" in caught.value.hint


def test_an_unknown_model_is_misconfigured(embed):
    with pytest.raises(Misconfigured) as caught:
        embed(TEXTS, Spec("gpt", 256))
    assert "wordllama" in caught.value.hint


@pytest.mark.parametrize("package", ["wordllama", "tokenizers", "safetensors.numpy"])
def test_a_missing_package_names_the_extra(embed, monkeypatch, package):
    monkeypatch.delitem(sys.modules, "pgvector_sync.embedding.local_models.wordllama_model", raising=False)
    if package == "wordllama":
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(Misconfigured) as caught:
        embed(TEXTS)
    assert "pgvector-sync[local]" in caught.value.hint


@pytest.mark.parametrize(("model", "dimensions"), [(None, 256), ("wordllama", 256), ("minilm", 384)])
def test_without_dimensions_in_the_file_a_model_has_its_full_size(tmp_path, model, dimensions):
    file = tmp_path / "pgvector-sync.toml"
    lines = ["[pipelines.docs]", 'source = "docs"', 'text = ["body"]', 'provider = "local"']
    file.write_text("\n".join([*lines, *([f'model = "{model}"'] if model else [])]))
    [pipeline] = load_config(file).pipelines.values()
    assert (pipeline.options.model, pipeline.options.dimensions) == (model or "wordllama", dimensions)


def test_a_missing_onnxruntime_names_the_extra_and_where_it_has_wheels(embed, monkeypatch):
    monkeypatch.delitem(sys.modules, "pgvector_sync.embedding.local_models.onnx_model", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(Misconfigured) as caught:
        embed(TEXTS, Spec("onnx:/a/folder", 8))
    assert "pgvector-sync[onnx]" in caught.value.hint
    assert "Python 3.11 to 3.14" in caught.value.hint


def test_nothing_is_embedded_beyond_the_deadline(embed):
    with pytest.raises(OutOfTime):
        embed(TEXTS, seconds=-1)


def test_threads_share_one_model(embed):
    batches = [[f"{text} {thread} {i}" for i in range(100) for text in TEXTS] for thread in range(6)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(embed, batches))
    for batch, answer in zip(batches, answers, strict=True):
        assert np.array_equal(answer.vectors, embed(batch).vectors)


@pytest.mark.parametrize("loaded_before", [True, False])
def test_a_forked_child_embeds_like_its_parent(embed, loaded_before):
    other = open_embedder(Provider("local", dialect="local"), Settings(_env_file=None), {})
    here = other.embed(TEXTS, SPEC, deadline=within(60)).vectors
    if loaded_before:
        embed(TEXTS)
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a child that hangs would outlive the tests
        code = 1
        try:
            code = 0 if np.array_equal(embed(TEXTS * 100).vectors[:3], here) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_loading_leaves_the_root_logger_alone(embed):
    before = list(logging.getLogger().handlers)
    embed(TEXTS)
    assert logging.getLogger().handlers == before
    assert "wordllama" not in sys.modules
