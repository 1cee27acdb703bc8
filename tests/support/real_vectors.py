"""Vectors of real texts by the default local model: sentences of our docs, and docstrings of Python's library."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgvector_sync.local import demo_corpus
from support.synced import DOCS, MODEL, Synced

Vectors = NDArray[np.float32]
DIMENSIONS = 256
DOCUMENTATION = Path(__file__).parents[2] / "docs"
SENTENCES = re.compile(r"\n\n|\n[-|] |(?<=[.:]) ")


@cache
def real_vectors(count: int) -> Vectors:
    """Normalized vectors, in an order that has nothing to do with the texts'."""
    from pgvector_sync.embedding.local_models.wordllama_model import WordLlamaModel

    pages = [page.read_text("utf-8") for page in sorted(DOCUMENTATION.rglob("*.md"))]
    texts = sorted({text for page in pages for text in SENTENCES.split(page) if 40 < len(text) < 600})
    if len(texts) < count:  # parsing the library takes seconds
        docstrings = (part for each in demo_corpus.collect() for part in each.text.split("\n\n"))
        texts = sorted({*texts, *(text for text in docstrings if 40 < len(text) < 600)})
    chosen = np.random.default_rng(7).permutation(len(texts))[:count]
    vectors = np.asarray(WordLlamaModel().encode([texts[i] for i in chosen]).vectors, dtype=np.float32)
    assert len(vectors) == count
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def store(synced: Synced, vectors: Vectors, *, notes: int = 100, **declared: Any) -> None:
    """Applies the pipeline `docs`, whose rows have these vectors, as `fill` does."""
    synced.run(DOCS)
    synced.declare(dimensions=vectors.shape[1], **declared)
    synced.apply()
    fill(synced, vectors, notes=notes)


def fill(synced: Synced, vectors: Vectors, *, notes: int = 100) -> None:
    """Replaces all rows and vectors. Rows are numbered from 1; `note` is the remainder of the number by `notes`."""
    with synced.database.connect() as connection:
        connection.execute("ALTER TABLE docs DISABLE TRIGGER USER")
        connection.execute("TRUNCATE docs, docs_embedding")
        connection.execute(
            "INSERT INTO docs SELECT n, 'text', mod(n, %s) FROM generate_series(1, %s) n", [notes, len(vectors)]
        )
        copied = "COPY docs_embedding (id, chunk_no, embedding, fingerprint, model, embedded_at) FROM STDIN"
        with connection.cursor().copy(copied) as copy:
            for number, vector in enumerate(vectors.tolist(), start=1):
                copy.write_row((number, 0, str(vector), b"\0" * 32, MODEL, "now"))
        connection.execute("VACUUM ANALYZE docs, docs_embedding")
