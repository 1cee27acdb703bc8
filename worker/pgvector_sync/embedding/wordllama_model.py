"""The static model in the wordllama wheel: a text's vector is the mean of its tokens' vectors.

Weights and tokenizer are read directly from the wheel, since importing wordllama would configure the root logger
and may download files. Several releases contain the same two files. Other files would be a different model under
the same name, so their hashes are checked (see docs/decisions/0025-one-wordllama-everywhere.md).
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load
from tokenizers import Tokenizer

from pgvector_sync.embedding.local_models import WORDLLAMA_DIMENSIONS
from pgvector_sync.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

WEIGHTS = "weights/l2_supercat_256.safetensors"
TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
SHA256 = {
    WEIGHTS: "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
    TOKENIZER: "bf467c9e0f536bda271283c6ef85eb1a943e3196b621c8a912d64953b205df83",
}


class WordLlamaModel:
    """The model. Its vectors can be truncated to the first 64 or 128 of 256 dimensions (Matryoshka)."""

    dimensions = WORDLLAMA_DIMENSIONS

    def __init__(self, folder: Path | None = None) -> None:
        """Raises ModuleNotFoundError, or Misconfigured if the wheel doesn't contain the expected files."""
        folder = folder or _package_folder()
        (weights,) = load(_read(folder, WEIGHTS)).values()
        self._weights: NDArray[np.float32] = weights.astype(np.float32)
        self._tokenizer = Tokenizer.from_str(_read(folder, TOKENIZER).decode())

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text."""
        return [each.ids for each in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], int]:
        pooled = np.zeros((len(texts), self._weights.shape[1]), dtype=np.float32)
        tokens = 0
        for row, ids in zip(pooled, self.tokenize(texts), strict=True):
            tokens += len(ids)
            if ids:
                # Unique ids, so that a text of a megabyte needs no more memory than the vocabulary.
                unique, counts = np.unique(ids, return_counts=True)
                # The weights have 11 significant bits, so a sum in float64 isn't rounded, whatever the order of
                # additions: the same text has the same vector on every machine.
                row[:] = counts.astype(np.float64) @ self._weights[unique].astype(np.float64) / len(ids)
        return pooled, tokens


def _read(folder: Path, name: str) -> bytes:
    path = folder / name
    content = path.read_bytes() if path.is_file() else b""
    if path.suffix == ".json":
        content = content.rstrip()  # some releases end the file with a newline
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise Misconfigured(
            "the installed wordllama doesn't contain the expected files",
            code="model_not_found",
            option="model",
            hint="pip install --force-reinstall 'pgvector-sync[local]'",
        )
    return content


def _package_folder() -> Path:
    spec = find_spec("wordllama")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(name="wordllama")
    return Path(spec.submodule_search_locations[0])
