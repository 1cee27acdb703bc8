"""A tiny sentence-transformers export, built here, whose numbers can be calculated by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.numpy as safetensors
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

VECTORS = {"[PAD]": (9, 9, 9), "[UNK]": (0, 0, 0), "red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}


MODULES = "sentence_transformers.models"
WHOLE = ["Transformer", "Pooling", "Normalize"]


def write_export(folder, *, longest=8, segments=False, pooling=None, inputs=(), output="last_hidden_state", at=""):
    """Write a model whose token vectors are VECTORS, before any context."""
    onnx = pytest.importorskip("onnx", reason="onnx makes the test's model")
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    helper = onnx.helper
    ids = ["input_ids", "attention_mask", *(["token_type_ids"] if segments else []), *inputs]
    nodes = [helper.make_node("Gather", ["weights", "input_ids"], [output])]
    shape = ["rows", "tokens", 3]
    if output == "sentence_embedding":  # an export with everything in it: here, the vector of the first token
        first = onnx.numpy_helper.from_array(np.array(0), "first")
        nodes = [
            helper.make_node("Gather", ["input_ids", "first"], ["first_ids"], axis=1),
            helper.make_node("Gather", ["weights", "first_ids"], [output]),
        ]
        shape = ["rows", 3]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["rows", "tokens"]) for name in ids],
        [helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, shape)],
        [
            onnx.numpy_helper.from_array(np.array(list(VECTORS.values()), dtype=np.float32), "weights"),
            *([first] if output == "sentence_embedding" else []),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    (folder / at).mkdir(exist_ok=True)
    onnx.save(model, folder / at / "model.onnx")
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(VECTORS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    write(folder / "sentence_bert_config.json", {"max_seq_length": longest})
    write(folder / "1_Pooling" / "config.json", pooling or {"pooling_mode": "mean"})


def write(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def write_modules(folder, kinds):
    """Write the list of the model's steps, each in a folder such as `1_Pooling`."""
    steps = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"{MODULES}.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    write(folder / "modules.json", steps)


def write_dense(folder, weight, *, bias=None, activation="Identity"):
    write(folder / "config.json", {"activation_function": f"torch.nn.modules.activation.{activation}"})
    tensors = {"linear.weight": np.array(weight, dtype=np.float32)}
    if bias is not None:
        tensors["linear.bias"] = np.array(bias, dtype=np.float32)
    safetensors.save_file(tensors, folder / "model.safetensors")
