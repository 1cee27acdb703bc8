"""Real text in any amount: the sentences of the docstrings of every installed Python module, each once.

Their number depends on what is installed: the environment in which this project is developed has 110,000
sentences. They come in random order, which a seed decides.
"""

from __future__ import annotations

import ast
import random
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`])")
SHORTEST, LONGEST = 40, 600
"""Characters of a sentence."""
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def sentences(number: int, *, seed: int = 0) -> list[str]:
    """Return different sentences. Raises SystemExit if fewer are installed."""
    paths = {Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")}
    found = list(dict.fromkeys(sentence for path in sorted(paths) for sentence in _of_folder(path)))
    if len(found) < number:
        raise SystemExit(
            f"only {len(found):,} sentences are installed: install more packages, or ask for fewer rows"
        )
    random.Random(seed).shuffle(found)
    return found[:number]


def _of_folder(folder: Path) -> Iterator[str]:
    for file in sorted(folder.rglob("*.py")):
        if {"site-packages", "dist-packages"} & set(file.relative_to(folder).parts):
            continue  # of the Python from which the environment was made
        try:
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError, RecursionError):  # templates, and files for other versions
            continue
        for node in ast.walk(tree):
            if isinstance(node, _Documented) and (text := ast.get_docstring(node)):
                yield from _of_text(text)


def _of_text(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in SENTENCE_END.split(" ".join(paragraph.split())):
            if SHORTEST <= len(sentence) <= LONGEST and _is_prose(sentence):
                yield sentence


def _is_prose(sentence: str) -> bool:
    letters = sum(character.isalpha() or character == " " for character in sentence)
    return letters > 0.8 * len(sentence) and sentence.isprintable()
