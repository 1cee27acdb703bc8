"""The only writer of the JSON documents that users' programs parse.

A document is one object whose first field is `version`. Within a version, fields may be added, but none is
removed, renamed or given another type. docs/json.md lists the fields of every document; a test compares the two.

    dataclass      an object with its fields
    enum           its value
    timedelta      seconds, in a field with the suffix `_seconds`
    datetime       ISO 8601 in UTC, such as 2026-01-31T12:00:00.5Z
    NaN, infinity  null, since JSON can't represent them
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import Field, fields, is_dataclass
from datetime import UTC, datetime, time, timedelta
from enum import Enum

from pgvector_sync.telemetry.printable import printable_json

VERSION = 1


def write_document(content: Mapping[str, object], *, indent: int | None = 2) -> str:
    """Return a document as text without control characters. Raises TypeError for a type not listed above."""
    document = {"version": VERSION, **_object(content.items())}
    return printable_json(json.dumps(document, indent=indent, ensure_ascii=False, allow_nan=False))


def fields_of(result: object) -> dict[str, object]:
    """Return the fields of a dataclass under their names in a document."""
    return {_name(field): getattr(result, field.name) for field in fields(result)}  # type: ignore[arg-type]


def _name(field: Field[object]) -> str:
    # decided by the declared type, so that a duration that is None has the suffix too
    return f"{field.name}_seconds" if "timedelta" in str(field.type) else field.name


def _object(items: Iterable[tuple[object, object]]) -> dict[str, object]:
    return {str(name): _value(value) for name, value in items}


def _value(value: object) -> object:
    if value is None or isinstance(value, bool | int | str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        return round(seconds, 3 if seconds >= 1 else 6)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, time):
        return value.isoformat()
    if isinstance(value, Mapping):
        return _object(value.items())
    if isinstance(value, list | tuple):
        return [_value(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return _object(fields_of(value).items())
    raise TypeError(f"can't write a value of type {type(value).__name__} into a JSON document")
