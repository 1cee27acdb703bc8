"""A sentence-transformers model exported to ONNX: a folder with model.onnx and tokenizer.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from pgvector_sync.errors import InputRejected, Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

MAX_TOKENS = 512
"""Tokens read per text if the export doesn't say: the limit of nearly every BERT model."""
ROWS = 16
"""Texts per run of the model: enough for fast matrix products, few enough for the memory of its attention."""
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""The inputs that we can provide. A model gets those it declares."""


class OnnxModel:
    """Pools token vectors as the export says: by their mean, or by the first one (CLS)."""

    def __init__(self, folder: str) -> None:
        """Raises Misconfigured if the folder is incomplete or ONNX Runtime can't read the model."""
        root = Path(folder)
        self._tokenizer = _load_tokenizer(root)
        self._session = _load_session(root)
        self._inputs = {each.name for each in self._session.get_inputs()}
        outputs = [each.name for each in self._session.get_outputs()]
        self._output = "last_hidden_state" if "last_hidden_state" in outputs else outputs[0]
        self._cls = bool(_read_options(root / "1_Pooling" / "config.json").get("pooling_mode_cls_token", False))
        probe, _ = self.encode(["one text, to learn the model's size"])
        self.dimensions = (probe.shape[1],)

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], int]:
        encodings = self._tokenizer.encode_batch(list(texts))
        # Texts of similar length run together, since each run is padded to its longest text.
        order = sorted(range(len(texts)), key=lambda position: len(encodings[position].ids))
        runs = [order[start : start + ROWS] for start in range(0, len(order), ROWS)]
        pooled = np.concatenate([self._run([encodings[position] for position in run]) for run in runs])
        vectors = np.empty_like(pooled)
        vectors[order] = pooled
        return vectors, sum(len(encoding.ids) for encoding in encodings)

    def _run(self, encodings: Sequence[Any]) -> NDArray[np.float32]:
        width = max(1, *(len(encoding.ids) for encoding in encodings))
        inputs = {name: np.zeros((len(encodings), width), dtype=np.int64) for name in INPUTS}
        for row, encoding in enumerate(encodings):
            inputs["input_ids"][row, : len(encoding.ids)] = encoding.ids
            inputs["token_type_ids"][row, : len(encoding.ids)] = encoding.type_ids
            inputs["attention_mask"][row, : len(encoding.ids)] = 1
        declared = {name: values for name, values in inputs.items() if name in self._inputs}
        try:
            (hidden,) = self._session.run([self._output], declared)
        except Exception:  # noqa: BLE001 ONNX Runtime's errors have no common base
            raise InputRejected("the local model failed on a text", code="model_failed") from None
        if hidden.ndim == 2:  # the export includes the pooling
            return np.asarray(hidden, dtype=np.float32)
        if self._cls:
            return np.asarray(hidden[:, 0], dtype=np.float32)
        mask = inputs["attention_mask"][..., np.newaxis].astype(np.float32)
        mean: NDArray[np.float32] = (hidden * mask).sum(axis=1) / np.maximum(mask.sum(axis=1), 1)
        return mean.astype(np.float32)


def _load_tokenizer(root: Path) -> Any:
    tokenizer = _load(root / "tokenizer.json", Tokenizer.from_file)
    configured = _read_options(root / "sentence_bert_config.json").get("max_seq_length")
    longest = configured or (tokenizer.truncation or {}).get("max_length") or MAX_TOKENS
    tokenizer.enable_truncation(max_length=int(longest))
    tokenizer.no_padding()  # `_run` pads per run, and masks the padding
    return tokenizer


def _load_session(root: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # Celery provides the concurrency: one core per process
    return _load(
        root / "model.onnx",
        lambda path: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]),
    )


def _read_options(path: Path) -> dict[str, Any]:
    """Return the options in a JSON file, none if there is no such file: it is optional in an export."""
    if not path.is_file():
        return {}
    options: dict[str, Any] = _load(path, lambda name: dict(json.loads(Path(name).read_bytes())))
    return options


def _load(path: Path, read: Callable[[str], Any]) -> Any:
    """Return `read(path)`. Raises Misconfigured with the file's name if it is missing or can't be read."""
    if not path.is_file():
        problem = f"the local model's folder has no {path.name}"
    else:
        try:
            return read(str(path))
        except Exception:  # noqa: BLE001 the libraries' errors have no common base
            problem = f"the local model's {path.name} can't be read"
    raise Misconfigured(
        problem,
        code="model_not_found",
        option="model",
        elsewhere=True,
        hint="set `model` to onnx:FOLDER, a sentence-transformers export with model.onnx and tokenizer.json",
    )
