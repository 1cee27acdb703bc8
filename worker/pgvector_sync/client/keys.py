"""Keys as applications hold them, in the one form that work and vectors have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from uuid import UUID

from pgvector_sync.errors import Refused
from pgvector_sync.model import Key, KeyColumn
from pgvector_sync.store.canonical import canonical_key

KeyPart = int | str | bool | UUID | Decimal | date
AnyKey = KeyPart | Sequence[KeyPart]
"""A value for one key column, or a list or tuple with a value per column; a datetime is a date, too."""


def canonical_keys(keys: Iterable[AnyKey], columns: Sequence[KeyColumn]) -> list[Key]:
    """Each key once, in the order given. Raises Refused for what isn't a key of these columns."""
    try:
        return list(dict.fromkeys(canonical_key(plain_parts(key), columns) for key in every(keys)))
    except (ValueError, ArithmeticError) as error:
        names = ", ".join(f"{column.name} {column.type}" for column in columns)
        hint = "pass a value, or a tuple with one value per column"
        raise Refused(f"expected keys of ({names}): {error}", hint=hint) from None


def every(keys: Iterable[AnyKey]) -> Iterable[AnyKey]:
    """The keys. Raises Refused for a string, whose letters would be taken for keys."""
    if isinstance(keys, str):
        raise Refused("expected a list of keys, got a string", hint=f"keys=[{keys!r}]")
    return keys


def plain_parts(key: AnyKey) -> list[object]:
    """The parts of a key as JSON has them: integers, strings and booleans."""
    parts = key if isinstance(key, list | tuple) else [key]
    return [_plain(part) for part in parts]


def _plain(part: object) -> object:
    if isinstance(part, date):  # datetimes as well
        return part.isoformat()
    return str(part) if isinstance(part, UUID | Decimal) else part
