"""The error tree: each class says what happens next, the docs list it, and no other code decides that."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from inspect import getdoc
from pathlib import Path

import pytest

import pgvector_sync
from pgvector_sync import errors
from pgvector_sync.errors import (
    CallRejected,
    DatabaseRefuses,
    InputRejected,
    Next,
    ProviderError,
    RowFault,
    SyncError,
    TimedOut,
)

PACKAGE = Path(str(pgvector_sync.__file__)).parent
DOCS = Path(__file__).parents[1] / "docs" / "failures.md"


def below(kind: type[SyncError]) -> Iterator[type[SyncError]]:
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from below(child)


CLASSES = list(below(SyncError))
OF_PROVIDERS = [kind for kind in CLASSES if issubclass(kind, ProviderError) and kind is not ProviderError]


def made(kind: type[SyncError]) -> SyncError:
    return (
        TimedOut()
        if kind is TimedOut
        else kind("words", **({"status": 403} if issubclass(kind, CallRejected) else {}))
    )


def table(heading: str) -> list[list[str]]:
    """The cells of the first table after a heading, without the header."""
    after = DOCS.read_text("utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in after.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_the_tree_in_the_docstring_lists_every_class_and_no_other() -> None:
    tree = re.findall(
        r"^[│├└─\s]*(\w+)(?: {2,}.*)?$", (getdoc(errors) or "").split("What happens next")[0], re.MULTILINE
    )
    assert set(tree) == {"SyncError", *(kind.__name__ for kind in CLASSES)}


@pytest.mark.parametrize("kind", OF_PROVIDERS, ids=lambda kind: kind.__name__)
def test_an_error_that_says_nothing_about_the_provider_never_blames_a_row(kind: type[ProviderError]) -> None:
    if kind.disposition.pipeline is Next.CARRY_ON:
        assert kind.disposition.row is RowFault.NEVER
        assert not kind.disposition.whole_model


@pytest.mark.parametrize("kind", OF_PROVIDERS, ids=lambda kind: kind.__name__)
def test_a_dead_letter_has_the_class_that_the_docs_list_with_its_attempts(kind: type[ProviderError]) -> None:
    if kind.disposition.row is RowFault.NEVER:
        return
    error = made(kind).of_one_input()
    attempts = {row[0].strip("`"): row[-1] for row in table("Dead letters")}
    assert attempts[error.name] == ("1" if error.disposition.row is RowFault.PARKS else "all")


def test_a_rejection_of_one_input_is_an_input_rejected_whatever_its_status() -> None:
    error = CallRejected("the provider denied access", status=403, code="blocked").of_one_input()
    assert type(error) is InputRejected
    assert (str(error), error.status) == ("the provider rejected the input (403 blocked)", 403)


def test_the_docs_list_what_happens_next_for_every_class() -> None:
    assert table("Error classes") == [
        [
            f"`{kind.__name__}`",
            kind.disposition.pipeline.value
            + (", with all others of its provider and model" if kind.disposition.whole_model else ""),
            kind.disposition.row.value,
        ]
        for kind in (DatabaseRefuses, *OF_PROVIDERS)
    ]


NAMES = {kind.__name__ for kind in CLASSES} - {"ProviderError"}
TREE_IS_BUILT = ("errors.py", "embedding")
"""Folders and modules that raise these errors."""


def decisions(tree: ast.AST) -> Iterator[int]:
    """Lines that check an error's class with isinstance, or compare its code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
            classes = {inner.id for inner in ast.walk(node.args[1]) if isinstance(inner, ast.Name)}
            if classes & NAMES:
                yield node.lineno
        if isinstance(node, ast.Compare):
            for side in (node.left, *node.comparators):
                if isinstance(side, ast.Attribute) and side.attr == "code":
                    yield node.lineno


def test_only_the_tree_decides_what_happens_after_an_error() -> None:
    found = {
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] not in TREE_IS_BUILT
        for line in decisions(ast.parse(path.read_text("utf-8")))
    }
    assert found == set()
