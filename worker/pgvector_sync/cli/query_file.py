"""The file of queries that `--queries-file` names: texts, one per line, or vectors in JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pgvector_sync.errors import ConfigError

_HINT = "write one text per line, or one vector per line as a JSON array of numbers"


def read_queries(path: Path) -> Sequence[str] | Sequence[Sequence[float]]:
    """Return the texts or the vectors of a file. Raises ConfigError."""
    where = str(path)
    try:
        content = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise ConfigError("it isn't UTF-8", where=where, hint=_HINT) from None
    except OSError as error:
        raise ConfigError(error.strerror or "it can't be read", where=where, hint=_HINT) from None
    lines = [line.strip() for line in content.removeprefix("\ufeff").splitlines() if line.strip()]
    if not lines:
        raise ConfigError("it has no queries", where=where, hint=_HINT)
    whole = [_vector(each) for each in _array(content)]
    # one array of vectors, or one vector per line
    vectors = whole if whole and None not in whole else [_vector(_array(line)) for line in lines]
    if not any(vectors):
        return lines
    for number, vector in enumerate(vectors, start=1):
        if vector is None:
            raise ConfigError(f"line {number} isn't a vector, and others are", where=where, hint=_HINT)
    return [vector for vector in vectors if vector is not None]


def _array(text: str) -> list[object]:
    """Return a JSON array; an empty one if the text is something else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return value if isinstance(value, list) else []


def _vector(value: object) -> list[float] | None:
    """Return an array of numbers; None if it is something else."""
    if not isinstance(value, list) or not value or any(type(each) not in (int, float) for each in value):
        return None
    return [float(each) for each in value]
