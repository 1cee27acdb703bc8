"""Computes vectors with ONNX Runtime, for a sentence-transformers model exported to ONNX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from pgvector_sync.embedding.local_models.models import Encoded
from pgvector_sync.embedding.local_models.onnx_folder import (
    MAX_TOKENS,
    Export,
    load,
    read_export,
    root_of,
    unusable,
)
from pgvector_sync.embedding.local_models.pooling import pool
from pgvector_sync.errors import InputRejected, Misconfigured, TimedOut

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pgvector_sync.model.deadline import Deadline

RUN_TOKENS = 512
"""Tokens per run of the model, padding included. Larger runs aren't faster (benchmarks/local_speed.py), but the
memory of their attention grows with the square of the length."""
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
"""The inputs that we can provide. A model gets those it declares."""
WHOLE, TOKENS = "sentence_embedding", "last_hidden_state"
"""The names of outputs that mean something: finished vectors, and those of the tokens."""


class OnnxModel:
    """A model that runs in this process, on as many threads as it is given."""

    def __init__(self, export: Export, tokenizer: Any, *, threads: int = 1) -> None:
        """Raises Misconfigured if the weights are missing, or don't fit the tokenizer."""
        self.prompts = export.prompts
        self.normalize = export.normalize
        self._export = export
        self._threads = threads
        self.tokenizer = tokenizer
        self._max_tokens = int(export.max_tokens or (tokenizer.truncation or {}).get("max_length") or MAX_TOKENS)
        tokenizer.enable_truncation(max_length=self._max_tokens)
        tokenizer.no_padding()  # `_run` pads per run, and masks the padding
        self._session = _load_session(export.weights)
        self._inputs = {each.name for each in self._session.get_inputs()}
        if unknown := sorted(self._inputs.difference(INPUTS)):
            raise unusable(
                f"the local model needs the input {unknown[0]}, which isn't supported",
                hint="export it for feature extraction: optimum-cli export onnx --task feature-extraction …",
            )
        outputs = [each.name for each in self._session.get_outputs()]
        self._output = next((name for name in (WHOLE, TOKENS) if name in outputs), outputs[0])
        # once per prompt and process: its length is needed with every batch
        self._prompt_tokens = lru_cache(maxsize=8)(self._count_prompt_tokens)
        try:
            probe = self.encode(["one text, to learn the model's size"])
        except (InputRejected, ValueError, IndexError):  # numpy's, for vectors and layers of other shapes
            raise unusable("the local model's files don't belong together: it fails on every text") from None
        self.dimensions = (probe.vectors.shape[1],)

    @classmethod
    def open(cls, path: str, *, threads: int = 1) -> OnnxModel:
        """Load the model of a folder, or of an .onnx file in or below it. Raises Misconfigured."""
        tokenizer = load(root_of(Path(path)) / "tokenizer.json", Tokenizer.from_file)
        return cls(read_export(Path(path)), tokenizer, threads=threads)

    def check_prompt(self, prompt: str) -> None:
        """Raise Misconfigured if a prompt leaves no room for the text."""
        if prompt and len(self.tokenizer.encode(self._prepared(prompt)).ids) >= self._max_tokens:
            raise Misconfigured(
                f"the prefix is as long as the {self._max_tokens} tokens that the local model reads",
                code="prefix_too_long",
                option="model",
                hint="shorten the pipeline's `prefix`, or use a model that reads longer texts",
            )

    def encode(self, texts: Sequence[str], *, prompt: str = "", until: Deadline | None = None) -> Encoded:
        encodings = self.tokenizer.encode_batch([self._prepared(text) for text in texts])
        skipped = 0 if self._export.include_prompt or not prompt else self._prompt_tokens(prompt)

        def run(positions: list[int]) -> NDArray[np.float32]:
            if until is not None and until.passed:
                raise TimedOut
            return self._run([encodings[position] for position in positions], skipped)

        runs = list(_runs([len(encoding.ids) for encoding in encodings]))
        if self._threads > 1 and len(runs) > 1:
            # created per call, since threads don't survive a fork
            with ThreadPoolExecutor(min(self._threads, len(runs)), thread_name_prefix="onnx") as threads:
                results = list(threads.map(run, runs))
        else:
            results = [run(positions) for positions in runs]
        order = [position for positions in runs for position in positions]
        vectors = np.empty((len(texts), results[0].shape[1]), dtype=np.float32)
        vectors[order] = np.concatenate(results)
        return Encoded(
            vectors,
            tokens=sum(len(encoding.ids) for encoding in encodings),
            truncated=sum(bool(encoding.overflowing) for encoding in encodings),
        )

    def _prepared(self, text: str) -> str:
        return text.lower() if self._export.lower_case else text

    def _count_prompt_tokens(self, prompt: str) -> int:
        """Count the tokens before the text: the prompt's and the start marker, without the end marker."""
        encoding = self.tokenizer.encode(self._prepared(prompt))
        markers = list(encoding.special_tokens_mask)
        while markers and markers[-1]:
            markers.pop()
        return len(markers)

    def _run(self, encodings: Sequence[Any], skipped: int) -> NDArray[np.float32]:
        width = max(1, *(len(encoding.ids) for encoding in encodings))
        ids, mask, types = (np.zeros((len(encodings), width), dtype=np.int64) for _ in range(3))
        for row, encoding in enumerate(encodings):
            length = len(encoding.ids)
            ids[row, :length], mask[row, :length], types[row, :length] = encoding.ids, 1, encoding.type_ids
        positions = np.tile(np.arange(width, dtype=np.int64), (len(encodings), 1))
        inputs = dict(zip(INPUTS, (ids, mask, types, positions), strict=True))
        try:
            (output,) = self._session.run([self._output], {name: inputs[name] for name in self._inputs})
        except Exception:  # noqa: BLE001 ONNX Runtime's errors have no common base
            raise InputRejected("the local model failed on a text", code="model_failed") from None
        if output.ndim == 2:  # the export includes everything after the transformer
            return np.asarray(output, dtype=np.float32)
        if not self._export.pooling:
            raise unusable(
                "the local model's folder doesn't say how the vectors of tokens become one",
                hint="copy modules.json and 1_Pooling/config.json from the model's repository into the folder",
            )
        mask[:, :skipped] = 0
        vectors = pool(np.asarray(output, dtype=np.float32), mask, self._export.pooling)
        for layer in self._export.layers:
            vectors = layer(vectors)
        return vectors


def _runs(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the positions of texts that run together: of similar length, since a run is padded to its longest."""
    run: list[int] = []
    for position in sorted(range(len(lengths)), key=lengths.__getitem__):
        if run and (len(run) + 1) * lengths[position] > RUN_TOKENS:
            yield run
            run = []
        run.append(position)
    if run:
        yield run


def _load_session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # runs are computed in parallel instead, which needs no waiting within a run
    options.inter_op_num_threads = 1
    return load(path, lambda name: onnxruntime.InferenceSession(name, options, providers=["CPUExecutionProvider"]))
