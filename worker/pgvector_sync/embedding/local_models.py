"""Models that run in this process, so that everything works without an API key."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pgvector_sync.embedding.answer import Answer
from pgvector_sync.embedding.per_process import PerProcess
from pgvector_sync.errors import InputRejected, Misconfigured

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from numpy.typing import NDArray

    from pgvector_sync.model import Purpose, Spec

ONNX_PREFIX = "onnx:"


class Model(Protocol):
    """A loaded model. `encode` may be called from several threads at once."""

    @property
    def dimensions(self) -> tuple[int, ...]:
        """The sizes to which a vector may be truncated, ascending; the last is the full size."""
        ...

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], int]:
        """Return the pooled vectors, not normalized, with shape (n, dimensions[-1]), and the number of tokens.

        A text without tokens gives a vector of zeros.
        """
        ...


WORDLLAMA = "wordllama"
WORDLLAMA_DIMENSIONS = (64, 128, 256)


def sizes_of(name: str) -> tuple[int, ...]:
    """Return the dimensions that a local model supports. Raises Misconfigured if it can't be loaded here."""
    return WORDLLAMA_DIMENSIONS if name == WORDLLAMA else load_model(name).dimensions


def check_dimensions(dimensions: int, sizes: Sequence[int]) -> None:
    """Raise Misconfigured if the model doesn't support this number of dimensions."""
    if dimensions not in sizes:
        raise Misconfigured(
            f"the local model doesn't support {dimensions} dimensions",
            code="wrong_dimensions",
            option="dimensions",
            hint=f"set the pipeline's `dimensions` to one of {', '.join(map(str, sizes))}",
        )


class LocalModels:
    """A `Connection` to local models, which are loaded at their first use in each process and kept."""

    def __init__(self) -> None:
        self._models: dict[str, PerProcess[Model]] = {}

    def prepare(self, spec: Spec) -> None:
        check_dimensions(spec.dimensions, self._model(spec.model).dimensions)

    def call(self, texts: Sequence[str], spec: Spec, purpose: Purpose, *, timeout: timedelta) -> Answer:
        del (
            purpose,
            timeout,
        )  # no local model distinguishes queries from documents yet, and a request takes milliseconds
        model = self._model(spec.model)
        check_dimensions(spec.dimensions, model.dimensions)
        pooled, tokens = model.encode(texts)
        return Answer(_unit(pooled[:, : spec.dimensions]), tokens)

    def close(self) -> None:
        self._models.clear()

    def _model(self, name: str) -> Model:
        # `setdefault` is atomic, so no lock is needed that a fork could leave locked.
        return self._models.setdefault(name, PerProcess(lambda: load_model(name))).get()


def load_model(name: str) -> Model:
    """Load `wordllama` or `onnx:FOLDER`.

    Raises Misconfigured if it is unknown or incomplete, or its extra is missing.
    """
    try:
        if name == WORDLLAMA:
            from pgvector_sync.embedding.wordllama_model import WordLlamaModel

            return WordLlamaModel()
        if name.startswith(ONNX_PREFIX):
            # its threads wouldn't survive a fork, and Celery's processes already use every core
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
            from pgvector_sync.embedding.onnx_model import OnnxModel

            return OnnxModel(name.removeprefix(ONNX_PREFIX))
    except ModuleNotFoundError as error:
        extra = "local" if name == WORDLLAMA else "onnx"
        hint = f"pip install 'pgvector-sync[{extra}]'"
        if error.name == "onnxruntime" and sys.version_info >= (3, 15):
            hint = "run workers on Python 3.11 to 3.14: onnxruntime has no wheel for newer versions yet"
        raise Misconfigured(
            f"the local model needs the package {error.name}",
            code="missing_extra",
            option="model",
            elsewhere=True,
            hint=hint,
        ) from None
    raise Misconfigured(
        "unknown local model",
        code="model_not_found",
        option="model",
        hint="use `wordllama`, or `onnx:FOLDER` for a sentence-transformers export",
    )


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalize vectors to length one. Raises InputRejected if a text has no tokens known to the model."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise InputRejected("a text has no tokens known to the local model", code="no_tokens")
    unit: NDArray[np.float32] = vectors / lengths
    return unit
