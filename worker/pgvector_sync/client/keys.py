"""Conversion of an application's keys to the canonical form that work rows and vectors are stored under."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from uuid import UUID

from pgvector_sync.database import Database
from pgvector_sync.errors import Refused
from pgvector_sync.model import Key, KeyColumn
from pgvector_sync.store import pipelines
from pgvector_sync.store.canonical import canonical_key

JSON_BEGINS = ("[", '"')
"""A key that is typed or shown as JSON begins with one of these."""
KeyPart = int | str | bool | UUID | Decimal | date
AnyKey = KeyPart | Sequence[KeyPart]
"""The value of a single key column, or a list or tuple with one value per column. `date` includes `datetime`."""


def key_columns_of(database: Database, pipeline: str) -> tuple[KeyColumn, ...]:
    """Return the key columns of the pipeline's source. Raises Refused for an unknown pipeline."""
    with database.transaction(read_only=True) as connection:
        return pipelines.require_pipeline(connection, pipeline).source.key


def keys_of(database: Database, pipeline: str, keys: Iterable[AnyKey]) -> list[Key]:
    """Return the canonical form of each key once, in the order of first occurrence.

    Raises Refused for an unknown pipeline, and for a value that isn't a key of its source.
    """
    return _canonical_keys(keys, key_columns_of(database, pipeline))


def _canonical_keys(keys: Iterable[AnyKey], columns: Sequence[KeyColumn]) -> list[Key]:
    try:
        return list(dict.fromkeys(canonical_key(json_parts(key), columns) for key in iterate_keys(keys)))
    except (ValueError, ArithmeticError) as error:
        names = ", ".join(f"{column.name} {column.type}" for column in columns)
        hint = "pass one value, or a tuple with one value per column"
        raise Refused(f"expected keys of ({names}): {error}", hint=hint) from None


def iterate_keys(keys: Iterable[AnyKey]) -> Iterable[AnyKey]:
    """Return `keys`. Raises Refused for a string, whose characters would be read as keys."""
    if isinstance(keys, str):
        raise Refused("expected a list of keys, got a string", hint=f"keys=[{keys!r}]")
    return keys


def json_parts(key: AnyKey) -> list[object]:
    """Return the parts of a key as JSON values: integers, strings and booleans."""
    parts = key if isinstance(key, list | tuple) else [key]
    return [_json_value(part) for part in parts]


def _json_value(part: object) -> object:
    if isinstance(part, date):  # includes datetime
        return part.isoformat()
    return str(part) if isinstance(part, UUID | Decimal) else part


def show_key(key: Sequence[object]) -> str:
    """Return a key in the form that `--key` accepts."""
    bare = str(key[0])
    return bare if len(key) == 1 and bare[:1] not in JSON_BEGINS else json.dumps(key, ensure_ascii=False)
