"""The one writer of JSON documents: everything that a user's program parses is written here.

A document is one object whose first field is `version`. Within a version no field is removed, renamed or retyped;
new ones may be added. docs/json.md lists every document with its fields, and a test holds the two together.

    dataclasses    objects of their fields
    enums          their values
    durations      seconds, in a field with the suffix `_seconds`
    moments        ISO 8601 in UTC, such as 2026-01-31T12:00:00.5Z
    NaN, infinity  null, since JSON has no word for them
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
    """A document as text, without control characters. Raises TypeError for a value that has no form in JSON."""
    document = {"version": VERSION, **_object(content.items())}
    return printable_json(json.dumps(document, indent=indent, ensure_ascii=False, allow_nan=False))


def fields_of(result: object) -> dict[str, object]:
    """The fields of a dataclass under the names that they have in a document."""
    return {_name(field): getattr(result, field.name) for field in fields(result)}  # type: ignore[arg-type]


def _name(field: Field[object]) -> str:
    # by the declared type: a duration that is None has the same name as one that isn't
    return f"{field.name}_seconds" if "timedelta" in str(field.type) else field.name


def _object(items: Iterable[tuple[object, object]]) -> dict[str, object]:
    return {str(name): _value(value) for name, value in items}


def _value(value: object) -> object:
    if value is None or isinstance(value, bool | int | str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, timedelta):
        return round(value.total_seconds(), 3)
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
    raise TypeError(f"a JSON document has no form for {type(value).__name__}")
