"""Keys as users type them and as commands print them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pgvector_sync.client.keys import JSON_BEGINS
from pgvector_sync.errors import ConfigError
from pgvector_sync.model import Key, KeyColumn
from pgvector_sync.store.canonical import canonical_key


def parse_key(text: str, columns: Sequence[KeyColumn], *, where: str = "--key") -> Key:
    """Parse a JSON array, or a single column's value, bare or as a JSON string.

    Raises ConfigError if the text isn't a valid key of these columns.
    """
    try:
        value = json.loads(text, parse_float=str, parse_int=str) if text[:1] in JSON_BEGINS else text
        return canonical_key(value if isinstance(value, list) else [value], columns)
    except (ValueError, ArithmeticError):
        names = ", ".join(f"{column.name} {column.type}" for column in columns)
        raise ConfigError(
            f"expected a key of ({names}), got {text}",
            where=where,
            hint="write 42 or abc for one column, '[\"eu\", 7]' for several",
        ) from None


def read_keys(file: str, columns: Sequence[KeyColumn]) -> Iterator[Key]:
    """Read one key per line from a file, or `-` for standard input. Skips blank lines. Raises ConfigError."""
    try:
        # utf-8-sig: a byte order mark isn't part of the first key
        lines = sys.stdin if file == "-" else Path(file).open(encoding="utf-8-sig")  # noqa: SIM115  closed below
    except OSError as error:
        raise ConfigError(f"can't be read: {error.strerror}", where=file) from None
    try:
        with lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield parse_key(line.strip(), columns, where=f"--keys {file}, line {number}")
    except UnicodeDecodeError:
        raise ConfigError("expected UTF-8 text", where=f"--keys {file}", hint="write one key per line") from None
