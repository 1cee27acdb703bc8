"""Named SQL: one file per module, parts that are not statements, nothing unused, every placeholder explained."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import pgvector_sync
from pgvector_sync.database.statements import part, parts, sql_folder, statement, statement_files, statements

PACKAGE = Path(pgvector_sync.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
LOADER = "pgvector_sync.database.statements"
NAMES = {f"{file}.{name}": "name" for file in statement_files() for name in statements(file)}
NAMES |= {f"{file}.{name}": "part" for file in statement_files() for name in parts(file)}
COMPOSED = re.compile(r"(?<![{'])\{([a-z_]+)\}")
VALUE = re.compile(r"%\([a-z_]+\)[sbt]")
ROW = re.compile(r"^\| `(\{[a-z_]+\}|%\([a-z_]+\)[sbt])` \| (.+?) \| (.+) \|$", re.MULTILINE)


def module_of(file: str) -> Path:
    return PACKAGE / "database/session.py" if file == "session" else PACKAGE / f"store/{file}.py"


def constants(module: Path) -> Iterator[str]:
    """Every string in a module, including docstrings."""
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("file", statement_files())
def test_every_file_of_statements_has_the_module_of_its_name(file: str) -> None:
    assert module_of(file).exists()
    assert set(constants(module_of(file))) & {name for name in NAMES if name.startswith(f"{file}.")}


def test_a_statement_is_used_only_by_the_module_of_its_file() -> None:
    elsewhere = [
        (str(module.relative_to(PACKAGE)), text)
        for module in MODULES
        for text in constants(module)
        if text in NAMES and module != module_of(text.partition(".")[0])
    ]
    assert elsewhere == []


def test_every_statement_and_every_part_is_used() -> None:
    asked = {text for file in statement_files() for text in constants(module_of(file))}
    assert sorted(NAMES.keys() - asked) == []


def test_names_are_literals_so_that_a_search_finds_them() -> None:
    """`statement(f"…")` would hide the name from readers and from these tests."""
    hidden = [
        f"{module.relative_to(PACKAGE)}:{node.lineno}"
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("statement", "part")
        if any(isinstance(inner, ast.JoinedStr) for inner in ast.walk(node.args[0]))
    ]
    assert hidden == []


def test_only_the_store_and_the_database_import_the_loader() -> None:
    """The contract of import-linter, for packages that it doesn't list yet."""
    importers = {
        module.relative_to(PACKAGE).parts[0]
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text("utf-8")))
        if (isinstance(node, ast.ImportFrom) and node.module == LOADER)
        or (isinstance(node, ast.Import) and any(alias.name == LOADER for alias in node.names))
    }
    assert importers == {"store", "database"}


@pytest.mark.parametrize("name", [name for name, kind in NAMES.items() if kind == "part"])
def test_a_part_isnt_a_statement(name: str) -> None:
    assert part(name).as_string()
    with pytest.raises(LookupError, match="is a part, which can't run"):
        statement(name)


def test_a_statement_isnt_a_part_and_unknown_names_are_refused() -> None:
    with pytest.raises(LookupError, match="is a statement"):
        part("work.ack")
    for ask in (statement, part):
        with pytest.raises(LookupError, match=r"work\.acknowledge"):
            ask("work.acknowledge")


def test_each_name_exists_once_and_is_described() -> None:
    for file in statement_files():
        folder = sql_folder() if file == "session" else sql_folder() / "queries"
        text = (folder / f"{file}.sql").read_text("utf-8")
        assert text.startswith("-- "), file
        marks = re.findall(r"^-- (?:name|part): (\w+)\n(--)?", text, re.MULTILINE)
        assert [name for name, count in Counter(name for name, _ in marks).items() if count > 1] == [], file
        assert [name for name, described in marks if not described] == [], file


def test_the_page_explains_every_placeholder_once_and_no_other() -> None:
    texts = [text for file in statement_files() for text in (statements(file) | parts(file)).values()]
    used = {f"{{{name}}}" for text in texts for name in COMPOSED.findall(text)}
    used |= {value for text in texts for value in VALUE.findall(text)}
    # fragments that a module composes contain values too
    used |= {
        value for file in statement_files() for text in constants(module_of(file)) for value in VALUE.findall(text)
    }
    used |= set(VALUE.findall((PACKAGE / "store/shape.py").read_text("utf-8")))
    explained = Counter(
        placeholder for placeholder, _, _ in ROW.findall((sql_folder() / "README.md").read_text("utf-8"))
    )
    assert (sorted(used - explained.keys()), sorted(explained.keys() - used)) == ([], [])
    assert [placeholder for placeholder, count in explained.items() if count > 1] == []
