"""Real text that every machine has: the docstrings of Python's own library, read from its source.

Nothing is imported or run, and the same Python gives the same rows in the same order.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pgvector_sync.errors import Refused

LEFT_OUT = frozenset({"distutils", "idlelib", "lib2to3", "test", "turtledemo"})
"""Programs, tests and what newer Pythons don't have."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Docstring:
    """What is documented, and how."""

    module: str
    name: str
    """Within the module, such as `Random.choice`; empty for the module itself."""
    signature: str
    """Such as `(self, seq)`; empty for what isn't a function."""
    text: str


def collect() -> list[Docstring]:
    """All public modules, classes, functions and methods that have a docstring.

    Raises Refused where this Python comes without the source of its library.
    """
    library = Path(sysconfig.get_path("stdlib"))
    found = [docstring for module, path in _modules(library) for docstring in _of_module(module, path)]
    if not found:
        raise Refused(
            f"this Python has no source of its library in {library}",
            hint="run the demo with another Python; for your own tables this one will do",
        )
    return found


def _modules(library: Path) -> Iterator[tuple[str, Path]]:
    for name in sorted(sys.stdlib_module_names - LEFT_OUT):
        files = [library / f"{name}.py", *sorted((library / name).rglob("*.py"))]
        for path in filter(Path.is_file, files):
            parts = path.relative_to(library).with_suffix("").parts
            if parts[-1] == "__init__":
                parts = parts[:-1]
            if not any(part.startswith("_") or part in ("test", "tests") for part in parts):
                yield ".".join(parts), path


def _of_module(module: str, path: Path) -> Iterator[Docstring]:
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):  # templates, and files of another Python
        return
    yield from _of_node(module, "", tree)


def _of_node(module: str, name: str, node: ast.Module | ast.ClassDef | _Function) -> Iterator[Docstring]:
    text = ast.get_docstring(node)
    if text and "\0" not in text:  # which Postgres doesn't store
        signature = f"({ast.unparse(node.args)})" if isinstance(node, _Function) else ""
        yield Docstring(module, name, signature, text.encode(errors="replace").decode())
    if isinstance(node, _Function):
        return
    for inner in node.body:
        if isinstance(inner, ast.ClassDef | _Function) and not inner.name.startswith("_"):
            yield from _of_node(module, f"{name}.{inner.name}".lstrip("."), inner)
