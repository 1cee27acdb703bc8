"""Finds files in installed packages, and makes sure that they are the ones that a model's name stands for.

The fingerprint of a row holds the model's name, so other files under that name would mix vectors of two models in
one table without a trace (see docs/decisions/0025-one-wordllama-everywhere.md).
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from pgvector_sync.errors import Misconfigured


def folder_of(package: str) -> Path:
    """Return the folder of a package without importing it. Raises ModuleNotFoundError."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(name=package)
    return Path(spec.submodule_search_locations[0])


def read(path: Path, sha256: str, *, package: str, extra: str) -> bytes:
    """Return the content of a file. Raises Misconfigured if it has another hash, or is missing."""
    content = path.read_bytes() if path.is_file() else b""
    if path.suffix == ".json":
        content = content.rstrip()  # some releases end the file with a newline
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Misconfigured(
            f"the installed {package} doesn't contain the expected files",
            code="model_not_found",
            option="model",
            hint=f"pip install --force-reinstall 'pgvector-sync[{extra}]'",
        )
    return content
