"""What lets a test pass although its claim is false, looked for in all tests."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
BROAD = {"Exception", "BaseException", "AssertionError"}


@functools.cache
def functions() -> list[tuple[str, ast.FunctionDef]]:
    """Every test, with its place."""
    return [
        (f"{path.relative_to(ROOT)}:{node.lineno}", node)
        for path in sorted(ROOT.rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def waits_for_nothing(function: ast.FunctionDef) -> Iterator[str]:
    """`never(lambda: False, 0.3)` is a sleep, and `eventually(lambda: True)` is nothing."""
    for node in ast.walk(function):
        match node:
            case ast.Call(func=ast.Name(id="never" | "eventually"), args=[ast.Lambda(body=ast.Constant()), *_]):
                yield ast.unparse(node)


def ignores_failures(function: ast.FunctionDef) -> Iterator[str]:
    """A block whose failures are ignored may not have done anything: `pytest.raises` says which failure is expected."""
    for node in ast.walk(function):
        match node:
            case ast.Call(func=ast.Name(id="suppress") | ast.Attribute(attr="suppress")):
                yield from (ast.unparse(node) for name in node.args if ast.unparse(name) in BROAD)
            case ast.ExceptHandler(body=[ast.Pass() | ast.Continue()]):
                yield f"except {node.type and ast.unparse(node.type)}: {ast.unparse(node.body[0])}"


@pytest.mark.parametrize("weakness", [waits_for_nothing, ignores_failures], ids=lambda weakness: weakness.__name__)
def test_no_test_has_this_weakness(weakness: Callable[[ast.FunctionDef], Iterator[str]]) -> None:
    assert len(functions()) > 1_000
    found = [f"{place} {function.name}: {what}" for place, function in functions() for what in weakness(function)]
    assert found == []
