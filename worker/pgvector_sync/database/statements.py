"""Loads named SQL: statements, and the parts that they are composed of.

Only the module of a file's name asks for what is in it: `sql/queries/work.sql` belongs to `store/work.py`, and
`sql/session.sql` to `database/session.py` (docs/decisions/0042).
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from psycopg import sql

_MARK = re.compile(r"^-- (name|part): (\w+)\n", re.MULTILINE)
_DESCRIPTION = re.compile(r"\A(?:--.*\n)+")
"""Not sent to the server."""
SESSION = "session"
"""The one file that isn't among the queries."""


def sql_folder() -> Path:
    """The folder `sql`: inside the installed package, or at the top of a source tree."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "sql"
    return installed if installed.is_dir() else package.parent.parent / "sql"


def statement_files() -> list[str]:
    """The files with named SQL, without their endings."""
    return sorted([SESSION, *(path.stem for path in (sql_folder() / "queries").glob("*.sql"))])


@cache
def statements(file: str) -> dict[str, str]:
    """What a file says under `-- name:`, by name."""
    return _read(file, "name")


@cache
def parts(file: str) -> dict[str, str]:
    """What a file says under `-- part:`, by name."""
    return _read(file, "part")


@cache
def statement(name: str) -> sql.SQL:
    """The statement `file.name`, to be run or composed. Raises LookupError for anything else, parts included."""
    file, _, short = name.partition(".")
    if short in parts(file):
        raise LookupError(f"{name} can't run by itself: it is a part, which part() returns")
    return _found(statements(file), name, short)


@cache
def part(name: str) -> sql.SQL:
    """The part `file.name`, to be composed into a statement. Raises LookupError for anything else."""
    file, _, short = name.partition(".")
    if short in statements(file):
        raise LookupError(f"{name} is a statement, which statement() returns")
    return _found(parts(file), name, short)


def _found(texts: dict[str, str], name: str, short: str) -> sql.SQL:
    if short not in texts:
        raise LookupError(f"sql/ has no {name}")
    return sql.SQL(texts[short])


def _read(file: str, kind: str) -> dict[str, str]:
    folder = sql_folder() if file == SESSION else sql_folder() / "queries"
    _, *marked = _MARK.split((folder / f"{file}.sql").read_text("utf-8"))
    found = zip(marked[::3], marked[1::3], marked[2::3], strict=True)
    return {name: _DESCRIPTION.sub("", body).strip().rstrip(";") for marker, name, body in found if marker == kind}
