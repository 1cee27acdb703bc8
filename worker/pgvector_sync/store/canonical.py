"""Keys as people and programs give them, in the one form that the triggers write."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

from pgvector_sync.model import Key, KeyColumn
from pgvector_sync.store.shape import base_type

_FAR_DATE = re.compile(r"-?infinity|\d{5,7}-\d\d-\d\d|\d{4,}-\d\d-\d\d BC")
_CLOCK = r"T\d\d:\d\d:\d\d(?:\.\d{0,5}[1-9])?"
_FAR_TIME = re.compile(
    rf"-?infinity|\d{{5,6}}-\d\d-\d\d{_CLOCK}(?P<zone>Z?)|\d{{4,}}-\d\d-\d\d{_CLOCK}(?P<zone_bc>Z?) BC"
)
_ZONE_NEEDED = "it needs a time zone, such as 2026-01-31T12:00:00Z"


def canonical_key(values: Sequence[object], columns: Sequence[KeyColumn]) -> Key:
    """A key in the form that `key_json` gives it. Raises ValueError or ArithmeticError for what isn't one."""
    if len(values) != len(columns):
        raise ValueError(f"it needs {len(columns)} values")
    return tuple(_part(value, base_type(column.type)) for value, column in zip(values, columns, strict=True))


def _part(value: object, kind: str) -> int | str:
    if isinstance(value, bool) and kind == "boolean":
        value = str(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("true, null and the like are no part of a key")  # noqa: TRY004  # of what a user typed
    text = str(value)
    if "\0" in text:
        raise ValueError("Postgres stores no NUL character")
    return _FORMS.get(kind, str)(text)


def _numeric(text: str) -> str:
    number = format(Decimal(text), "f")
    number = number.rstrip("0").rstrip(".") if "." in number else number
    return "0" if number == "-0" else number


def _date(text: str) -> str:
    """As Postgres prints it; years beyond Python's pass as they are."""
    return text if _FAR_DATE.fullmatch(text) else date.fromisoformat(text).isoformat()


def _timestamp(text: str) -> str:
    """ISO 8601 without a zone; years beyond Python's pass where they are in that form."""
    if far := _FAR_TIME.fullmatch(text):
        if far["zone"] or far["zone_bc"]:
            raise ValueError("it has no time zone")
        return text
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        raise ValueError("it has no time zone")
    return _iso(moment)


def _timestamptz(text: str) -> str:
    """ISO 8601 in UTC with a Z; years beyond Python's pass where they are in that form."""
    if far := _FAR_TIME.fullmatch(text):
        if "T" in text and not (far["zone"] or far["zone_bc"]):
            raise ValueError(_ZONE_NEEDED)
        return text
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(_ZONE_NEEDED)
    return _iso(moment.astimezone(UTC).replace(tzinfo=None)) + "Z"


def _iso(moment: datetime) -> str:
    """Postgres' own: no more digits behind the point than there are."""
    fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    return moment.replace(microsecond=0).isoformat() + fraction


def _boolean(text: str) -> str:
    """JSON's or SQL's, as Postgres casts it to text."""
    if text.lower() in ("true", "t"):
        return "true"
    if text.lower() in ("false", "f"):
        return "false"
    raise ValueError("it is true or false")


_FORMS: Mapping[str, Callable[[str], int | str]] = {
    "smallint": int,
    "integer": int,
    "bigint": int,
    "numeric": _numeric,
    "date": _date,
    "timestamp without time zone": _timestamp,
    "timestamp with time zone": _timestamptz,
    "uuid": lambda text: str(UUID(text)),
    "boolean": _boolean,
    "character": lambda text: text.rstrip(" "),
}
