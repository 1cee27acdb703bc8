"""Models that run in this process, so that everything works without an API key."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pgvector_sync.embedding.answer import Answer
from pgvector_sync.embedding.dialects.local import ONNX_PREFIX
from pgvector_sync.embedding.per_process import PerProcess
from pgvector_sync.errors import InputRejected, Misconfigured
from pgvector_sync.model.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from numpy.typing import NDArray

    from pgvector_sync.model import Purpose, Spec


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a model computes from texts."""

    vectors: NDArray[np.float32]
    """One row per text, not normalized, of the model's full size. A text without tokens gives zeros."""
    tokens: int
    truncated: int = 0
    """How many of the texts are longer than what the model reads."""


class Model(Protocol):
    """A loaded model. `encode` may be called from several threads at once."""

    @property
    def dimensions(self) -> tuple[int, ...]:
        """The sizes to which a vector may be truncated, ascending; the last is the full size."""
        ...

    @property
    def prompts(self) -> Mapping[Purpose, str]:
        """What the model expects before a text, unless the pipeline says otherwise."""
        ...

    @property
    def normalize(self) -> bool:
        """Whether the model's vectors are to be normalized."""
        ...

    def check_prompt(self, prompt: str) -> None:
        """Raise Misconfigured if a prompt leaves no room for the text."""
        ...

    def encode(self, texts: Sequence[str], *, prompt: str = "", until: Deadline | None = None) -> Encoded:
        """Compute vectors. Every text begins with `prompt`. Raises TimedOut at `until`, and InputRejected."""
        ...


WORDLLAMA = "wordllama"
MINILM = "minilm"
EXTRAS = {WORDLLAMA: "local", MINILM: "minilm"}
FIXED_SIZES = {WORDLLAMA: (64, 128, 256), MINILM: (384,)}
"""The dimensions of the models that packages ship."""


def sizes_of(name: str) -> tuple[int, ...]:
    """Return the dimensions that a local model supports. Raises Misconfigured if it can't be loaded here."""
    return FIXED_SIZES.get(name) or load_model(name).dimensions


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

    def __init__(self, *, threads: int = 1) -> None:
        self._threads = threads
        self._models: dict[str, PerProcess[Model]] = {}

    def prepare(self, spec: Spec) -> None:
        model = self._model(spec.model)
        check_dimensions(spec.dimensions, model.dimensions)
        model.check_prompt(spec.prefix or "")

    def call(self, texts: Sequence[str], spec: Spec, purpose: Purpose, *, timeout: timedelta) -> Answer:
        model = self._model(spec.model)
        check_dimensions(spec.dimensions, model.dimensions)
        if spec.prefix is None:
            prompt = model.prompts.get(purpose, "")
            texts = [prompt + text for text in texts]
        else:
            prompt = spec.prefix  # already in the texts
        encoded = model.encode(texts, prompt=prompt, until=Deadline.after(timeout))
        vectors = encoded.vectors[:, : spec.dimensions]
        lengths = _lengths(vectors)
        return Answer(vectors / lengths if model.normalize else vectors, encoded.tokens, encoded.truncated)

    def close(self) -> None:
        self._models.clear()

    def _model(self, name: str) -> Model:
        # `setdefault` is atomic, so no lock is needed that a fork could leave locked.
        return self._models.setdefault(name, PerProcess(lambda: load_model(name, threads=self._threads))).get()


def load_model(name: str, *, threads: int = 1) -> Model:
    """Load `wordllama`, `minilm` or `onnx:FOLDER`.

    Raises Misconfigured if it is unknown or incomplete, or its extra is missing.
    """
    try:
        if name == WORDLLAMA:
            from pgvector_sync.embedding.local_models.wordllama_model import WordLlamaModel

            return WordLlamaModel()
        # its threads wouldn't survive a fork, and Celery's processes already use every core
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        if name == MINILM:
            from pgvector_sync.embedding.local_models.minilm import open_minilm

            return open_minilm(threads=threads)
        if name.startswith(ONNX_PREFIX):
            from pgvector_sync.embedding.local_models.onnx_model import OnnxModel

            return OnnxModel.open(name.removeprefix(ONNX_PREFIX), threads=threads)
    except ModuleNotFoundError as error:
        hint = f"pip install 'pgvector-sync[{EXTRAS.get(name, 'onnx')}]'"
        if error.name == "onnxruntime":
            hint += "; onnxruntime has wheels for Python 3.11 to 3.14, and none for Macs with an Intel processor"
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
        hint="use `wordllama`, `minilm`, or `onnx:FOLDER` for a sentence-transformers export",
    )


def _lengths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the length of each vector. Raises InputRejected if a text has no tokens known to the model."""
    lengths: NDArray[np.float32] = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise InputRejected("a text has no tokens known to the local model", code="no_tokens")
    return lengths
