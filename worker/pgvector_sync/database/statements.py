"""Loads the named statements of `sql/queries`."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from psycopg import sql

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def sql_folder() -> Path:
    """The folder `sql`: inside the installed package, or at the top of a source tree."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "sql"
    return installed if installed.is_dir() else package.parent.parent / "sql"


@cache
def _statements(file: str) -> dict[str, str]:
    parts = _NAME.split((sql_folder() / "queries" / f"{file}.sql").read_text("utf-8"))
    return {name: body.strip().rstrip(";") for name, body in zip(parts[1::2], parts[2::2], strict=True)}


@cache
def statement(name: str) -> sql.SQL:
    """The statement `file.name`, ready to be run or composed. Raises KeyError for a name that isn't there."""
    file, _, short = name.partition(".")
    return sql.SQL(_statements(file)[short])
