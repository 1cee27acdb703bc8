"""The commands that messages name can be run as they stand: none lacks an argument."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command

from pgvector_sync.cli.app import app

ROOT = Path(__file__).parents[2] / "worker" / "pgvector_sync"
COMPLETE = r"(?=[;,.:)`'\"]|\s(?:or|and|then|to|tells|shows)\b|\s*$)"


@cache
def needing_arguments() -> list[str]:
    """The commands that can't be run without an argument, with their groups."""
    names = []
    for name, command in get_command(app).commands.items():
        inner = command.load() if hasattr(command, "load") else command
        members = inner.commands.items() if hasattr(inner, "commands") else [("", inner)]
        names += [
            f"{name} {member}".strip()
            for member, each in members
            if any(parameter.param_type_name == "argument" and parameter.required for parameter in each.params)
        ]
    return names


def messages(source: str) -> Iterator[str]:
    """All strings of a module except its docstrings; X stands for what is inserted."""
    tree = ast.parse(source)
    documented = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    documentation = {
        id(statement.value) for node in documented for statement in node.body if isinstance(statement, ast.Expr)
    }
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and not {id(node)} & (documentation | parts)
        ):
            yield node.value


def incomplete(message: str) -> list[str]:
    return [
        found[0]
        for command in needing_arguments()
        for found in re.finditer(rf"pgvector-sync {command}{COMPLETE}", message)
    ]


def test_no_message_names_a_command_without_the_argument_that_it_needs() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {message}"
        for path in sorted(ROOT.rglob("*.py"))
        for message in messages(path.read_text("utf-8"))
        if incomplete(message)
    }
    assert found == set()


@pytest.mark.parametrize(
    ("message", "wrong"),
    [
        ("fix it, then: pgvector-sync resume", True),
        ("pgvector-sync resume; nothing was requested", True),
        ("pgvector-sync resume X", False),
        ("pgvector-sync doctor", False),
        ("pgvector-sync dead-letters requeue", True),
        ("pgvector-sync dead-letters list", False),
    ],
)
def test_what_is_incomplete(message: str, wrong: bool) -> None:
    assert bool(incomplete(message)) == wrong
