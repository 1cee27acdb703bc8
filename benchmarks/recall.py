"""Measures how well models find the note that answers a question, on the labelled set in benchmarks/labelled.

    python benchmarks/recall.py wordllama:256 minilm:384
    python benchmarks/recall.py onnx:/models/e5-small-v2:384 --document-prefix "passage: " --query-prefix "query: "
    python benchmarks/recall.py e5:384 --base-url http://127.0.0.1:8000/v1 --query-body '{"input_type": "query"}'

It prints recall@1 and @5 (the share of questions whose note is the nearest, or among the nearest five), the mean
reciprocal rank, and documents per second (for local models, per core). Texts take the same path as in a worker.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from pgvector_sync.embedding.embedder import open_embedder
from pgvector_sync.model import Provider, Purpose, Spec
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.settings import Settings

NOTES = Path(__file__).with_name("labelled") / "notes.txt"
NEAREST = 5


def read_notes(path: Path) -> tuple[list[str], list[tuple[str, int]]]:
    """Return the notes, and each question with the position of its note."""
    notes: list[str] = []
    questions: list[tuple[str, int]] = []
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("? "):
            questions.append((line[2:], len(notes) - 1))
        elif line and not line.startswith("#"):
            notes.append(line)
    return notes, questions


def ranks(documents: np.ndarray, queries: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the rank of each query's document, counted from one; equal similarities count against it."""
    documents, queries = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (documents, queries))
    similar = queries @ documents.T
    own = similar[np.arange(len(queries)), wanted]
    return (similar >= own[:, np.newaxis]).sum(axis=1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="model:dimensions")
    parser.add_argument("--base-url", help="of an OpenAI-compatible endpoint, instead of local models")
    parser.add_argument("--threads", type=int, default=1, help="of local models")
    for side in ("document", "query"):
        parser.add_argument(f"--{side}-prefix", help="default: the model's own, which for most is none")
        parser.add_argument(f"--{side}-body", type=json.loads, default={}, help="further parameters, as JSON")
    return parser.parse_args()


def open_provider(options: argparse.Namespace):
    if options.base_url is None:
        provider, hosts = Provider("local", dialect="local"), ""
    else:
        provider = Provider("measured", base_url=options.base_url, dimensions_parameter="none")
        parts = urlsplit(options.base_url)
        hosts = f"{parts.scheme}://{parts.netloc}"
    settings = Settings(_env_file=None, local_threads=options.threads, allowed_hosts=hosts)
    return open_embedder(provider, settings, os.environ)


def main() -> None:
    options = arguments()
    notes, questions = read_notes(NOTES)
    wanted = np.array([note for _, note in questions])
    embedder = open_provider(options)
    # of local models the time of the processor, so that other programs on the machine disturb it little
    clock = time.process_time if options.base_url is None else time.perf_counter
    print(f"{len(notes)} notes, {len(questions)} questions")
    print("model                  recall@1  recall@5    MRR  documents/s")
    for argument in options.models:
        model, dimensions = argument.rsplit(":", 1)

        def embed(texts: list[str], purpose: Purpose, prefix: str | None, body: dict) -> np.ndarray:
            spec = Spec(model, int(dimensions), prefix=prefix, body=body)  # noqa: B023 called within the loop
            embedder.prepare(spec)
            return embedder.embed(
                texts, spec, purpose=purpose, deadline=Deadline.after(timedelta(minutes=10))
            ).vectors

        embed(["the model is loaded"], Purpose.DOCUMENT, None, options.document_body)
        started = clock()
        documents = embed(notes, Purpose.DOCUMENT, options.document_prefix, options.document_body)
        rate = len(notes) / (clock() - started)
        queries = embed([text for text, _ in questions], Purpose.QUERY, options.query_prefix, options.query_body)
        rank = ranks(documents, queries, wanted)
        first, near, reciprocal = (rank == 1).mean(), (rank <= NEAREST).mean(), (1 / rank).mean()
        print(f"{model:<22} {first:>8.3f}  {near:>8.3f}  {reciprocal:>5.3f}  {rate:>11,.0f}")


if __name__ == "__main__":
    main()
