"""Loads named SQL: statements, and the parts from which they are composed.

Only the module with a file's name uses its statements: `sql/queries/work.sql` belongs to `store/work.py`, and
`sql/session.sql` to `database/session.py` (docs/decisions/0042).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path

from psycopg import sql

_MARK = re.compile(r"^-- (name|part): (\w+)\n", re.MULTILINE)
_DESCRIPTION = re.compile(r"\A(?:--.*\n)+")
"""The comment before a statement, which isn't sent to the server."""
SESSION = "session"
"""The only file outside `sql/queries`."""


def sql_folder() -> Path:
    """Returns the folder `sql`: inside the installed package, or at the root of a source tree."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "sql"
    return installed if installed.is_dir() else package.parent.parent / "sql"


def statement_files() -> list[str]:
    """Returns the names of the files with named SQL, without their extensions."""
    return sorted([SESSION, *(path.stem for path in (sql_folder() / "queries").glob("*.sql"))])


@cache
def statements(file: str) -> dict[str, str]:
    """Returns the statements of a file (`-- name:`), by name."""
    return _read(file, "name")


@cache
def parts(file: str) -> dict[str, str]:
    """Returns the parts of a file (`-- part:`), by name."""
    return _read(file, "part")


@cache
def statement(name: str) -> sql.SQL:
    """Returns the statement `file.name`. Raises LookupError if there is none, or if it is a part."""
    file, _, short = name.partition(".")
    if short in parts(file):
        raise LookupError(f"{name} is a part, which can't run by itself: use part()")
    return _get(statements(file), name, short)


@cache
def part(name: str) -> sql.SQL:
    """Returns the part `file.name`. Raises LookupError if there is none, or if it is a statement."""
    file, _, short = name.partition(".")
    if short in statements(file):
        raise LookupError(f"{name} is a statement, not a part: use statement()")
    return _get(parts(file), name, short)


def composed_once(compose: Callable[[], sql.Composed]) -> Callable[[], sql.Composed]:
    """Caches a statement that is composed of constants, as one piece."""

    @wraps(compose)
    def composed() -> sql.Composed:
        if compose not in _composed:
            _composed[compose] = sql.Composed([sql.SQL(compose().as_string(None))])
        return _composed[compose]

    return composed


_composed: dict[Callable[[], sql.Composed], sql.Composed] = {}


def forget_composed() -> None:
    """Empties the cache of `composed_once`, for tests that edit statements."""
    _composed.clear()


def _get(texts: dict[str, str], name: str, short: str) -> sql.SQL:
    if short not in texts:
        raise LookupError(f"there is no {name} in sql/")
    return sql.SQL(texts[short])


def _read(file: str, kind: str) -> dict[str, str]:
    folder = sql_folder() if file == SESSION else sql_folder() / "queries"
    _, *marked = _MARK.split((folder / f"{file}.sql").read_text("utf-8"))
    entries = zip(marked[::3], marked[1::3], marked[2::3], strict=True)
    return {name: _DESCRIPTION.sub("", body).strip().rstrip(";") for mark, name, body in entries if mark == kind}
