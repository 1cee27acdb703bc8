"""A tiny sentence-transformers export, built here, whose numbers can be calculated by hand."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from pgvector_sync.embedding.embedder import open_embedder
from pgvector_sync.errors import InputRejected, Misconfigured
from pgvector_sync.model import Provider, Spec
from pgvector_sync.settings import Settings
from support.waiting import within

VECTORS = {"[PAD]": (9, 9, 9), "[UNK]": (0, 0, 0), "red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}


def write_export(folder, *, cls=False, longest=8, segments=False):
    onnx = pytest.importorskip("onnx", reason="onnx makes the test's model")
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    helper, ids = onnx.helper, ["input_ids", "attention_mask", *(["token_type_ids"] if segments else [])]
    nodes = [helper.make_node("Gather", ["weights", "input_ids"], ["last_hidden_state"])]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["rows", "tokens"]) for name in ids],
        [helper.make_tensor_value_info("last_hidden_state", onnx.TensorProto.FLOAT, ["rows", "tokens", 3])],
        [onnx.numpy_helper.from_array(np.array(list(VECTORS.values()), dtype=np.float32), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, folder / "model.onnx")
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(VECTORS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": longest}))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": cls}))


def embed(folder, texts, dimensions=3):
    embedder = open_embedder(Provider("local", dialect="local"), Settings(_env_file=None), {})
    return embedder.embed(texts, Spec(f"onnx:{folder}", dimensions), deadline=within(60))


def unit(*numbers):
    return np.array(numbers, dtype=np.float32) / np.linalg.norm(numbers)


@pytest.mark.parametrize("segments", [True, False])
def test_the_mean_leaves_padding_out_and_keeps_the_order(tmp_path, segments):
    write_export(tmp_path, segments=segments)
    answer = embed(tmp_path, ["red green blue", "red", "red red green", "blue"])
    expected = [unit(1, 1, 1), unit(1, 0, 0), unit(2, 1, 0), unit(0, 0, 1)]
    assert np.allclose(answer.vectors, expected, atol=1e-6)
    assert (answer.tokens, answer.requests) == (8, 0)


def test_more_texts_than_one_run_keep_their_order(tmp_path):
    write_export(tmp_path)
    words = [list(VECTORS)[2 + i % 3] for i in range(100)]
    answer = embed(tmp_path, [" ".join([word] * (1 + i % 7)) for i, word in enumerate(words)])
    assert np.allclose(answer.vectors, [VECTORS[word] for word in words])


def test_cls_pooling_takes_the_first_token(tmp_path):
    write_export(tmp_path, cls=True)
    assert np.allclose(embed(tmp_path, ["green red red"]).vectors, [unit(0, 1, 0)])


def test_a_text_is_cut_at_the_length_of_the_export(tmp_path):
    write_export(tmp_path, longest=2)
    answer = embed(tmp_path, ["red green blue blue blue"])
    assert np.allclose(answer.vectors, [unit(1, 1, 0)])
    assert answer.tokens == 2


@pytest.mark.parametrize("text", ["", "unknown words"])
def test_a_text_without_a_known_token_is_refused(tmp_path, text):
    write_export(tmp_path)
    with pytest.raises(InputRejected):
        embed(tmp_path, ["red", text])


def test_an_unsupported_size_is_misconfigured(tmp_path):
    write_export(tmp_path)
    with pytest.raises(Misconfigured) as caught:
        embed(tmp_path, ["red"], dimensions=2)
    assert "one of 3" in caught.value.hint


@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json"])
def test_a_file_that_is_missing_is_named(tmp_path, file):
    write_export(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(Misconfigured) as caught:
        embed(tmp_path, ["red"])
    assert file in str(caught.value)


@pytest.mark.parametrize(
    "file", ["model.onnx", "tokenizer.json", "1_Pooling/config.json", "sentence_bert_config.json"]
)
def test_a_file_that_cannot_be_read_is_misconfigured(tmp_path, file):
    write_export(tmp_path)
    (tmp_path / file).write_text("nonsense")
    with pytest.raises(Misconfigured) as caught:
        embed(tmp_path, ["red"])
    assert file.rsplit("/")[-1] in str(caught.value)


def test_a_missing_runtime_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "pgvector_sync.embedding.onnx_model", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(Misconfigured) as caught:
        embed(tmp_path, ["red"])
    assert "pgvector-sync[onnx]" in caught.value.hint
