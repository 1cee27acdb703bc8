"""Real text that every machine has: the docstrings of Python's standard library.

They are parsed from its source without importing it. The same Python always yields the same rows in the same
order.
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

EXCLUDED_MODULES = frozenset({"distutils", "idlelib", "lib2to3", "test", "turtledemo"})
"""Programs, tests, and modules that newer Pythons don't have."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Docstring:
    """A docstring and the object that it documents."""

    module: str
    name: str
    """The name within the module, such as `Random.choice`; empty for the module itself."""
    signature: str
    """The parameters, such as `(self, seq)`; empty unless it is a function."""
    text: str

    @property
    def first_paragraph(self) -> str:
        return self.text.split("\n\n", 1)[0]


def collect() -> list[Docstring]:
    """Return the docstrings of all public modules, classes, functions and methods.

    Raises Refused if the source of the standard library isn't installed.
    """
    library = Path(sysconfig.get_path("stdlib"))
    docstrings = [docstring for module, path in _modules(library) for docstring in _of_module(module, path)]
    if not docstrings:
        raise Refused(
            f"the source of Python's standard library isn't installed in {library}",
            hint="run the demo with another Python; this one still works for your own tables",
        )
    return docstrings


def _modules(library: Path) -> Iterator[tuple[str, Path]]:
    for name in sorted(sys.stdlib_module_names - EXCLUDED_MODULES):
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
    except (OSError, SyntaxError, ValueError):  # templates, and files for another version of Python
        return
    yield from _of_node(module, "", tree)


def _of_node(module: str, name: str, node: ast.Module | ast.ClassDef | _Function) -> Iterator[Docstring]:
    text = ast.get_docstring(node)
    if text and "\0" not in text:  # Postgres can't store NUL
        signature = f"({ast.unparse(node.args)})" if isinstance(node, _Function) else ""
        yield Docstring(module, name, signature, text.encode(errors="replace").decode())
    if isinstance(node, _Function):
        return
    for inner in node.body:
        if isinstance(inner, ast.ClassDef | _Function) and not inner.name.startswith("_"):
            yield from _of_node(module, f"{name}.{inner.name}".lstrip("."), inner)
