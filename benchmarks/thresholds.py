"""Measures how similar related and unrelated texts are under a model: what a `min_similarity` can be.

    python benchmarks/thresholds.py wordllama:256 minilm:384

It uses the labelled set in benchmarks/labelled: how similar each question is to the note that answers it, and to
all other notes. `kept` is the share of answers that a threshold keeps, `noise` the mean number of other notes that
come with them, of 139.
"""

from __future__ import annotations

import argparse
import os
from datetime import timedelta

import numpy as np
from recall import NOTES, read_notes

from pgvector_sync.embedding.embedder import open_embedder
from pgvector_sync.model import Provider, Purpose, Spec
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.settings import Settings

KEPT = (0.99, 0.95, 0.9, 0.8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="model:dimensions of local models")
    notes, questions = read_notes(NOTES)
    own = np.array([note for _, note in questions])
    embedder = open_embedder(Provider("local", dialect="local"), Settings(_env_file=None), os.environ)
    print("model            answer: p5 median  p95   other notes: median  p99     kept  threshold  noise")
    for argument in parser.parse_args().models:
        model, dimensions = argument.rsplit(":", 1)
        spec = Spec(model, int(dimensions))
        embedder.prepare(spec)

        def embed(texts: list[str], purpose: Purpose) -> np.ndarray:
            deadline = Deadline.after(timedelta(minutes=10))
            vectors = embedder.embed(texts, spec, purpose=purpose, deadline=deadline).vectors  # noqa: B023
            return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

        similar = embed([text for text, _ in questions], Purpose.QUERY) @ embed(notes, Purpose.DOCUMENT).T
        is_own = np.zeros(similar.shape, dtype=bool)
        is_own[np.arange(len(own)), own] = True
        answers, others = similar[is_own], similar[~is_own]
        low, median, high = np.percentile(answers, (5, 50, 95))
        shown = f"{argument:<16} {low:>10.2f} {median:>6.2f} {high:>5.2f}   {np.median(others):>18.2f}"
        shown += f" {np.percentile(others, 99):>5.2f}"
        for kept in KEPT:
            threshold = np.percentile(answers, 100 * (1 - kept))
            noise = (others >= threshold).sum() / len(questions)
            print(f"{shown}   {kept:>6.0%} {threshold:>10.2f} {noise:>6.1f}")
            shown = " " * len(shown)


if __name__ == "__main__":
    main()
