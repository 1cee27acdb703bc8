"""Parsing the values of the file. Each function raises ValueError with what was expected."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from pgvector_sync.embedding.network.authorities import is_path
from pgvector_sync.settings.variables import is_never_a_key
from pgvector_sync.store.shape import text_of_columns

_NAME = r'"(?:[^"]|"")+"|[^\W\d][\w$]*'
PREFIX_CHARACTERS = 4_000
"""The maximum length of a prefix, which is sent with every text."""
_TABLE = re.compile(rf"\s*(?:({_NAME})\.)?({_NAME})\s*")


@dataclass(frozen=True, slots=True)
class Text:
    """What is embedded: columns or an expression."""

    columns: tuple[str, ...] | None
    sql: str


def read_text(value: object) -> Text:
    """Parse a list of columns, or `{sql = "…"}`."""
    if not isinstance(value, dict):
        columns = read_columns(value)
        return Text(columns, text_of_columns(columns))
    if value.keys() != {"sql"} or not isinstance(value["sql"], str):
        raise ValueError('expected text.sql = "an expression over the row" and nothing else')
    return Text(None, read_sql(value["sql"]))


def read_columns(value: object) -> tuple[str, ...]:
    """Parse a list of column names, which aren't folded to lower case."""
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise ValueError('expected a list of column names such as ["title", "body"]')
    if len(set(value)) < len(value):
        raise ValueError("expected each column only once")
    return tuple(map(_checked_name, value))


def read_table(value: object) -> tuple[str | None, str]:
    """Parse `table` or `schema.table`, quoted or folded as in SQL, into (schema or None, table)."""
    match = _TABLE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("""expected "table", "schema.table" or 'schema."Quoted Name"'""")
    schema, table = match.groups()
    return (_folded(schema) if schema else None), _folded(table)


def _folded(name: str) -> str:
    return _checked_name(name[1:-1].replace('""', '"') if name.startswith('"') else name.lower())


def _checked_name(name: str) -> str:
    # Postgres truncates longer names silently, and would then look up another table.
    if not name.strip() or "\0" in name or len(name.encode()) > 63:
        raise ValueError("expected names of 1 to 63 bytes")
    return name


def read_sql(value: str) -> str:
    """Parse an SQL expression. The database checks later whether it is valid."""
    if not value.strip() or "\0" in value:
        raise ValueError("expected an SQL expression")
    return value.strip()


def read_prefix(value: str) -> str:
    """Parse a prefix of documents or queries, which may contain line breaks and tabs."""
    if any(unicodedata.category(character) == "Cc" and character not in "\n\t" for character in value):
        raise ValueError("expected a text without control characters other than line breaks and tabs")
    if len(value) > PREFIX_CHARACTERS:
        raise ValueError(f"expected at most {PREFIX_CHARACTERS:,} characters; got {len(value):,}")
    return value


def read_url(value: str) -> str:
    """Parse the URL of an endpoint, which must not contain a secret."""
    if not re.fullmatch(r"https?://(\[[0-9a-fA-F:.]+\]|[\w.-]+)(:\d{1,5})?(/[^\s?#@]*)?", value):
        raise ValueError("expected http(s)://host[:port]/path, without user, password, query or fragment")
    return value.rstrip("/")


def read_proxy(value: str) -> str:
    """Parse the URL of a proxy, which must not contain a secret."""
    if not re.fullmatch(r"http://(\[[0-9a-fA-F:.]+\]|[\w.-]+)(:\d{1,5})?/?", value, re.ASCII):
        raise ValueError(
            "expected http://host[:port]; a user and password belong in the environment, see docs/providers.md"
        )
    return value.rstrip("/")


def read_path(value: str) -> str:
    """Parse the path of a file on the workers' machines, which may not be this one."""
    if not is_path(value):
        raise ValueError("expected an absolute path on the workers' machines, printable and without a comma")
    return value


def read_variable(value: str) -> str:
    """Parse the name of an environment variable that may hold a provider's key."""
    # Upper case only: a pasted key has lower-case letters, and would otherwise be stored in a table.
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):
        raise ValueError("expected the name of an environment variable, such as OPENAI_API_KEY, never a key")
    if is_never_a_key(value):
        raise ValueError(
            f"expected the variable of a provider's key; {value} holds something else and is never sent"
        )
    return value
