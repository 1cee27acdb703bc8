"""Checks whether two wheels of wordllama contain the same model.

    pip download --no-deps --dest /tmp/wheels wordllama==0.2.2.post0
    pip download --no-deps --dest /tmp/wheels wordllama==0.4.0.post1
    python benchmarks/wordllama_wheels.py /tmp/wheels/*.whl

It compares their files, and the tokens and vectors that each gives for the docstrings of Python's standard library
and for difficult texts. The exit code is 1 if anything except the end of a file differs.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np

from pgvector_sync.embedding.local_models.wordllama_model import TOKENIZER, WEIGHTS, WordLlamaModel
from pgvector_sync.local.demo_corpus import collect
from support.texts import awkward_texts


@dataclass(frozen=True)
class Answer:
    wheel: str
    tokens: list[list[int]]
    vectors: np.ndarray


def answer(wheel: Path, texts: list[str]) -> Answer:
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as opened:
        for name in (WEIGHTS, TOKENIZER):
            content = Path(opened.extract(f"wordllama/{name}", folder)).read_bytes()
            print(f"{wheel.name}\n  {name}, {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}")
        model = WordLlamaModel(Path(folder) / "wordllama")
        return Answer(wheel.name, model.tokenize(texts), model.encode(texts).vectors)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheels", nargs="+", type=Path)
    docstrings = [f"{each.module}.{each.name}\n\n{each.text}" for each in collect()]
    texts = docstrings + awkward_texts()
    first, *others = [answer(wheel, texts) for wheel in parser.parse_args().wheels]
    print(f"Python {sys.version.split()[0]}, numpy {np.__version__}")
    print(f"{len(texts):,} texts, {len(docstrings):,} of them docstrings: {sum(map(len, first.tokens)):,} tokens")
    print(f"sha256 of all vectors: {hashlib.sha256(first.vectors.tobytes()).hexdigest()}")
    different = 0
    for other in others:
        tokens = sum(a != b for a, b in zip(first.tokens, other.tokens, strict=True))
        vectors = int((first.vectors.view(np.uint32) != other.vectors.view(np.uint32)).any(axis=1).sum())
        print(f"{other.wheel}: {tokens} texts with other tokens, {vectors} with another vector")
        different += tokens + vectors
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
