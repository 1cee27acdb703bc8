"""The static model in the wordllama wheel: a text's vector is the mean of its tokens' vectors.

Weights and tokenizer are read directly from the wheel, since importing wordllama would configure the root logger
and may download files. Several releases contain the same two files. Other files would be a different model under
the same name, so their hashes are checked (see docs/decisions/0025-one-wordllama-everywhere.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from safetensors.numpy import load
from tokenizers import Tokenizer

from pgvector_sync.embedding.local_models import pinned
from pgvector_sync.embedding.local_models.models import FIXED_SIZES, WORDLLAMA, Encoded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pgvector_sync.model import Purpose
    from pgvector_sync.model.deadline import Deadline

WEIGHTS = "weights/l2_supercat_256.safetensors"
TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
SHA256 = {
    WEIGHTS: "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
    TOKENIZER: "bf467c9e0f536bda271283c6ef85eb1a943e3196b621c8a912d64953b205df83",
}


class WordLlamaModel:
    """The model. Its vectors can be truncated to the first 64 or 128 of 256 dimensions (Matryoshka)."""

    dimensions = FIXED_SIZES[WORDLLAMA]
    normalize = True
    prompts: ClassVar[dict[Purpose, str]] = {}

    def __init__(self, folder: Path | None = None) -> None:
        """Raises ModuleNotFoundError, or Misconfigured if the wheel doesn't contain the expected files."""
        folder = folder or pinned.folder_of("wordllama")
        weights, tokenizer = (
            pinned.read(folder / name, SHA256[name], package="wordllama", extra="local")
            for name in (WEIGHTS, TOKENIZER)
        )
        (vectors,) = load(weights).values()
        self._weights: NDArray[np.float32] = vectors.astype(np.float32)
        self._tokenizer = Tokenizer.from_str(tokenizer.decode())

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text."""
        return [each.ids for each in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def check_prompt(self, prompt: str) -> None:
        """Nothing to check: texts of any length are read to their end."""

    def encode(self, texts: Sequence[str], *, prompt: str = "", until: Deadline | None = None) -> Encoded:
        del prompt, until  # a request takes milliseconds
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
        return Encoded(pooled, tokens)
