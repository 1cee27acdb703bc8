"""The static model in the wordllama wheel: a text's vector is the mean of its tokens' vectors.

Weights and tokenizer are read straight from the wheel. Importing wordllama itself would set up the root
logger and can download; we need neither.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from pgvector_sync.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

WEIGHTS = "weights/l2_supercat_256.safetensors"
TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"


class WordLlamaModel:
    """Trained so that the first 64 or 128 of its 256 dimensions are a model of their own (Matryoshka)."""

    dimensions = (64, 128, 256)

    def __init__(self) -> None:
        """Raises ModuleNotFoundError, or Misconfigured where the wheel holds other files than we know."""
        folder = _package_folder()
        if not ((folder / WEIGHTS).is_file() and (folder / TOKENIZER).is_file()):
            raise Misconfigured(
                "the installed wordllama has other files than expected",
                code="model_not_found",
                hint="pip install --force-reinstall 'pgvector-sync[local]'",
            )
        (weights,) = load_file(folder / WEIGHTS).values()
        self._weights: NDArray[np.float32] = weights.astype(np.float32)
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], int]:
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        pooled = np.zeros((len(texts), self._weights.shape[1]), dtype=np.float32)
        tokens = 0
        for row, encoding in zip(pooled, encodings, strict=True):
            ids = encoding.ids
            tokens += len(ids)
            if ids:
                # Counted, so that a text of a megabyte needs no more memory than the vocabulary.
                known, times = np.unique(ids, return_counts=True)
                row[:] = (times / len(ids)).astype(np.float32) @ self._weights[known]
        return pooled, tokens


def _package_folder() -> Path:
    spec = find_spec("wordllama")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(name="wordllama")
    return Path(spec.submodule_search_locations[0])
