"""Folders of sentence-transformers exports are used as sentence-transformers uses them."""

from __future__ import annotations

import sys
from datetime import timedelta

import numpy as np
import pytest

from pgvector_sync.embedding.dialects.local import Local
from pgvector_sync.embedding.embedder import open_embedder
from pgvector_sync.embedding.local_models.models import LocalModels
from pgvector_sync.errors import InputRejected, Misconfigured, TimedOut
from pgvector_sync.model import Provider, Purpose, Spec
from pgvector_sync.settings import Settings
from support.onnx_export import VECTORS, WHOLE, write, write_dense, write_export, write_modules
from support.waiting import within


def embed(path, texts, dimensions=3, *, prefix=None, purpose=Purpose.DOCUMENT, threads=None):
    settings = Settings(_env_file=None, local_threads=threads)
    embedder = open_embedder(Provider("local", dialect="local"), settings, {})
    spec = Spec(f"onnx:{path}", dimensions, prefix=prefix)
    embedder.prepare(spec)
    return embedder.embed(texts, spec, deadline=within(60), purpose=purpose)


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
    write_export(tmp_path, pooling={"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    assert np.allclose(embed(tmp_path, ["green red red"]).vectors, [unit(0, 1, 0)])


# The vectors of "red green green", with weights counted from the left.
POOLED = {
    "cls": (1, 0, 0),
    "max": (1, 1, 0),
    "mean": (1 / 3, 2 / 3, 0),
    "mean_sqrt_len_tokens": (1 / 3**0.5, 2 / 3**0.5, 0),
    "weightedmean": (1 / 6, 5 / 6, 0),
    "lasttoken": (0, 1, 0),
}
OLD = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


@pytest.mark.parametrize("mode", POOLED)
@pytest.mark.parametrize("written", ["new", "old"])
def test_tokens_are_pooled_as_the_export_says(tmp_path, mode, written):
    off = dict.fromkeys(OLD.values(), False)
    write_export(tmp_path, pooling={"pooling_mode": mode} if written == "new" else off | {OLD[mode]: True})
    write_modules(tmp_path, ["Transformer", "Pooling"])
    # the longer text makes padding, which must not count
    answer = embed(tmp_path, ["red green green", "blue blue blue blue blue blue"])
    assert np.allclose(answer.vectors[0], POOLED[mode])


def test_several_poolings_are_joined(tmp_path):
    write_export(tmp_path, pooling={"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True})
    write_modules(tmp_path, ["Transformer", "Pooling"])
    answer = embed(tmp_path, ["red green green"], dimensions=6)
    assert np.allclose(answer.vectors, [POOLED["cls"] + POOLED["mean"]])


def test_an_export_that_ends_with_the_pooling_is_not_normalized(tmp_path):
    write_export(tmp_path, pooling={"pooling_mode": "mean_sqrt_len_tokens"})
    write_modules(tmp_path, ["Transformer", "Pooling"])
    assert np.allclose(np.linalg.norm(embed(tmp_path, ["red red red red"]).vectors), 2)
    write_modules(tmp_path, WHOLE)
    assert np.allclose(np.linalg.norm(embed(tmp_path, ["red red red red"]).vectors), 1)


def test_layers_after_the_pooling_are_computed_in_order(tmp_path):
    write_export(tmp_path)
    write_modules(tmp_path, ["Transformer", "Pooling", "Dense", "Dense"])
    for name in ("2_Dense", "3_Dense"):
        (tmp_path / name).mkdir()
    write_dense(tmp_path / "2_Dense", [[0, 2, 0], [0, 0, 1]], bias=[0, 3])
    write_dense(tmp_path / "3_Dense", [[1, 0], [0, 1], [1, 1]], activation="Tanh")
    assert np.allclose(embed(tmp_path, ["green"]).vectors, [np.tanh((2, 3, 5))])


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda folder: write_modules(folder, ["Transformer", "Pooling", "LSTM"]), "LSTM"),
        (lambda folder: write(folder / "1_Pooling" / "config.json", {"pooling_mode": "median"}), "1_Pooling"),
        (lambda folder: write_dense(folder / "2_Dense", [[1, 1, 1]], activation="GELU"), "2_Dense"),
        (lambda folder: (folder / "2_Dense" / "model.safetensors").unlink(), "model.safetensors"),
        (lambda folder: (folder / "1_Pooling" / "config.json").unlink(), "how the vectors of tokens become one"),
        (lambda folder: write_export(folder, inputs=["past_key_values"]), "past_key_values"),
    ],
    ids=["a step", "a pooling", "an activation", "lost weights", "no pooling", "an input"],
)
def test_what_is_not_supported_is_named_and_never_left_out(tmp_path, break_it, words):
    write_export(tmp_path)
    write_modules(tmp_path, ["Transformer", "Pooling", "Dense"])
    (tmp_path / "2_Dense").mkdir()
    write_dense(tmp_path / "2_Dense", [[1, 1, 1]])
    assert embed(tmp_path, ["red"], dimensions=1).vectors.shape == (1, 1)
    break_it(tmp_path)
    with pytest.raises(Misconfigured) as caught:
        embed(tmp_path, ["red"], dimensions=1)
    assert words in str(caught.value)
    assert caught.value.hint


def test_an_export_that_includes_everything_is_used_as_it_is(tmp_path):
    write_export(tmp_path, output="sentence_embedding")
    assert np.allclose(embed(tmp_path, ["green red red"]).vectors, [unit(0, 1, 0)])


PROMPTS = {"prompts": {"query": "red ", "passage": "green "}}


@pytest.mark.parametrize(
    ("said", "prefix", "purpose", "expected"),
    [
        (PROMPTS, None, Purpose.QUERY, unit(1, 0, 1)),
        (PROMPTS, None, Purpose.DOCUMENT, unit(0, 1, 1)),
        (PROMPTS, "", Purpose.QUERY, unit(0, 0, 1)),
        (PROMPTS, "red red ", Purpose.DOCUMENT, unit(2, 0, 1)),
        ({"prompts": {"query": "red "}}, None, Purpose.DOCUMENT, unit(0, 0, 1)),
        ({"prompts": {"any": "red "}, "default_prompt_name": "any"}, None, Purpose.DOCUMENT, unit(1, 0, 1)),
        (
            {"prompts": {"any": "red ", "document": ""}, "default_prompt_name": "any"},
            None,
            Purpose.DOCUMENT,
            unit(0, 0, 1),
        ),
        ({"prompts": {"query": None}, "default_prompt_name": None}, None, Purpose.QUERY, unit(0, 0, 1)),
    ],
    ids=["query", "document", "switched off", "replaced", "none", "default", "empty", "null"],
)
def test_the_exports_prompt_is_used_unless_the_pipeline_says_otherwise(tmp_path, said, prefix, purpose, expected):
    write_export(tmp_path)
    write(tmp_path / "config_sentence_transformers.json", said)
    assert np.allclose(embed(tmp_path, ["blue"], prefix=prefix, purpose=purpose).vectors, [expected])


@pytest.mark.parametrize("prefix", [None, "red red "])
def test_a_prompt_can_be_left_out_of_the_pooling(tmp_path, prefix):
    write_export(tmp_path, pooling={"pooling_mode": "mean", "include_prompt": False})
    write(tmp_path / "config_sentence_transformers.json", PROMPTS)
    answer = embed(tmp_path, ["blue"], prefix=prefix, purpose=Purpose.QUERY)
    assert np.allclose(answer.vectors, [unit(0, 0, 1)])
    assert answer.tokens == (2 if prefix is None else 3)


@pytest.mark.parametrize("prefix", ["red red", "red red red"])
def test_a_prefix_that_leaves_no_room_for_the_text_is_misconfigured(tmp_path, prefix):
    write_export(tmp_path, longest=2)
    with pytest.raises(Misconfigured, match="2 tokens that the local model reads"):
        embed(tmp_path, ["blue"], prefix=prefix)
    [failure] = Local().check_specs([Spec(f"onnx:{tmp_path}", 3, prefix=prefix)])  # as `apply` does
    assert failure is not None
    assert failure.code == "prefix_too_long"
    assert np.allclose(embed(tmp_path, ["blue"], prefix="red ").vectors, [unit(1, 0, 1)])


def test_a_text_is_cut_at_the_length_of_the_export_and_counted(tmp_path):
    write_export(tmp_path, longest=2)
    answer = embed(tmp_path, ["red green blue blue blue", "red green", "blue"])
    assert np.allclose(answer.vectors, [unit(1, 1, 0), unit(1, 1, 0), unit(0, 0, 1)])
    assert (answer.tokens, answer.truncated) == (5, 1)


def test_without_a_length_of_its_own_the_smallest_of_the_models_applies(tmp_path):
    write_export(tmp_path)
    (tmp_path / "sentence_bert_config.json").unlink()
    write(tmp_path / "tokenizer_config.json", {"model_max_length": 10**30})
    write(tmp_path / "config.json", {"max_position_embeddings": 3})
    assert embed(tmp_path, ["red " * 9]).tokens == 3
    write(tmp_path / "tokenizer_config.json", {"model_max_length": 2})
    assert embed(tmp_path, ["red " * 9]).tokens == 2


@pytest.mark.parametrize("path", ["", "onnx/model.onnx", "onnx"])
def test_the_model_may_be_in_a_folder_below(tmp_path, path):
    write_export(tmp_path, at="onnx", longest=2)
    if path == "onnx":
        with pytest.raises(Misconfigured, match=r"no tokenizer\.json"):
            embed(tmp_path / path, ["red"])
    else:
        assert embed(tmp_path / path, ["red green blue"]).tokens == 2


def test_texts_are_lowercased_if_the_export_says_so(tmp_path):
    write_export(tmp_path)
    write(tmp_path / "sentence_bert_config.json", {"max_seq_length": 8, "do_lower_case": True})
    assert np.allclose(embed(tmp_path, ["RED"]).vectors, [unit(1, 0, 0)])


def test_several_threads_give_the_same_vectors_in_the_same_order(tmp_path):
    write_export(tmp_path, longest=300)
    texts = [" ".join(list(VECTORS)[2 + (i + j) % 3] for j in range(1 + i * 7 % 250)) for i in range(60)]
    assert np.array_equal(embed(tmp_path, texts, threads=3).vectors, embed(tmp_path, texts, threads=1).vectors)


def test_a_request_ends_at_its_time_limit(tmp_path):
    write_export(tmp_path)
    model = LocalModels()
    spec = Spec(f"onnx:{tmp_path}", 3)
    assert len(model.call(["red"], spec, Purpose.QUERY, timeout=timedelta(minutes=1)).vectors) == 1
    with pytest.raises(TimedOut):
        model.call(["red"], spec, Purpose.QUERY, timeout=timedelta(0))


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


@pytest.mark.parametrize("path", ["", "x" * 5_000, "a\0b", "/dev/zero", "x.onnx"], ids=lambda path: path[:9])
def test_a_path_without_a_model_is_misconfigured(path):
    with pytest.raises(Misconfigured, match=r"no tokenizer\.json"):
        embed(path, ["red"])


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


@pytest.mark.parametrize(
    ("file", "content"),
    [
        *(
            ("config_sentence_transformers.json", {"prompts": wrong})
            for wrong in ([["a"]], "query: ", {"query": 5})
        ),
        ("config_sentence_transformers.json", {"prompts": {"a": "b"}, "default_prompt_name": ["a"]}),
        *(("sentence_bert_config.json", {"max_seq_length": wrong}) for wrong in ("8", [8], 0, -1, 10**30, 2.5)),
        ("1_Pooling/config.json", {"pooling_mode": [["mean"]]}),
        ("1_Pooling/config.json", {"pooling_mode": 5}),
        ("modules.json", {"path": "1_Pooling"}),
        ("modules.json", 5),
        ("2_Dense/config.json", {"activation_function": 5}),
        ("2_Dense/config.json", [1]),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_file_with_something_else_in_it_is_misconfigured(tmp_path, file, content):
    write_export(tmp_path)
    write_modules(tmp_path, ["Transformer", "Pooling", "Dense"])
    (tmp_path / "2_Dense").mkdir()
    write_dense(tmp_path / "2_Dense", [[1, 1, 1]])
    write(tmp_path / file, content)
    with pytest.raises(Misconfigured) as caught:
        embed(tmp_path, ["red"], dimensions=1)
    assert file.rsplit("/")[-1] in str(caught.value)


def test_a_layer_that_does_not_fit_the_pooling_is_misconfigured(tmp_path):
    write_export(tmp_path)
    write_modules(tmp_path, ["Transformer", "Pooling", "Dense"])
    (tmp_path / "2_Dense").mkdir()
    write_dense(tmp_path / "2_Dense", [[1, 1]])
    with pytest.raises(Misconfigured, match="don't belong together"):
        embed(tmp_path, ["red"], dimensions=1)


def test_a_missing_runtime_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "pgvector_sync.embedding.local_models.onnx_model", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(Misconfigured) as caught:
        embed(tmp_path, ["red"])
    assert "pgvector-sync[onnx]" in caught.value.hint
