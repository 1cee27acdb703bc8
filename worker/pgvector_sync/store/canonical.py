"""Converts keys from users and programs to the canonical form, which the triggers write."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import MAXYEAR, UTC, date, datetime
from decimal import Decimal
from uuid import UUID

from pgvector_sync.model import Key, KeyColumn
from pgvector_sync.store.shape import base_type

_ENDLESS = ("infinity", "-infinity")
_DAY = r"(?P<year>\d{4,7})-(?P<month>\d\d)-(?P<day>\d\d)"
_CLOCK = r"T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{0,5}[1-9])?"
_FAR_DATE = re.compile(rf"{_DAY}(?P<bc> BC)?", re.ASCII)
_FAR_TIME = re.compile(rf"{_DAY}{_CLOCK}(?P<zone>Z?)(?P<bc> BC)?", re.ASCII)
_LAST_DATE, _LAST_TIME = 5_874_897, 294_276
_FIRST_DAY = (-4713, 11, 24)
"""The first day that Postgres can store, where the year before 1 is 0."""
NUMERIC_DIGITS = 131_072
"""The maximum number of digits that Postgres stores before the decimal point; after it, the limit is lower."""
_ZONE_NEEDED = "expected a time zone, such as 2026-01-31T12:00:00Z"
_NO_ZONE = "expected no time zone"


def canonical_key(values: Sequence[object], columns: Sequence[KeyColumn]) -> Key:
    """Returns the canonical form of a key, that of `key_json`. Raises ValueError or ArithmeticError."""
    if len(values) != len(columns):
        raise ValueError(f"expected {len(columns)} values, got {len(values)}")
    return tuple(_part(value, base_type(column.type)) for value, column in zip(values, columns, strict=True))


def is_usable(key: Key, columns: Sequence[KeyColumn]) -> bool:
    """Whether our triggers could have written a stored key, so that no statement fails on its values."""
    try:
        canonical = canonical_key(key, columns)
    except (ValueError, ArithmeticError):
        return False
    return canonical == key and all(map(operator.is_, map(type, canonical), map(type, key)))


def _part(value: object, kind: str) -> int | str:
    if type(value) is int and (limit := _INTEGERS.get(kind)) is not None and -limit <= value < limit:
        return value  # nearly every key
    if isinstance(value, bool) and kind == "boolean":
        value = str(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("expected strings and numbers")  # noqa: TRY004  # user input, not a programming error
    text = str(value)
    if "\0" in text:
        raise ValueError("Postgres can't store a NUL character")
    return _FORMS.get(kind, str)(text)


def _integer(limit: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        if not -limit <= number < limit:
            raise ValueError(f"expected an integer of {limit.bit_length()} bits")
        return number

    return parse


def _numeric(text: str) -> str:
    value = Decimal(text)
    if value.is_finite() and not -NUMERIC_DIGITS < value.adjusted() < NUMERIC_DIGITS:
        raise ValueError("Postgres can't store a number with so many digits")
    if not value.is_finite() and str(value) not in ("NaN", "Infinity", "-Infinity"):
        raise ValueError("expected a number, NaN, Infinity or -Infinity")
    number = format(value, "f")
    number = number.rstrip("0").rstrip(".") if "." in number else number
    return "0" if number == "-0" else number


def _date(text: str) -> str:
    """Returns a date as Postgres prints it. Years that Python doesn't have must already be in that form."""
    if text in _ENDLESS or ((far := _FAR_DATE.fullmatch(text)) and _is_far(far, last=_LAST_DATE)):
        return text
    return date.fromisoformat(text).isoformat()


def _is_far(match: re.Match[str], *, last: int) -> bool:
    """Whether a day is in a year that Python doesn't have. Raises ValueError if there is no such day."""
    year, month, day = int(match["year"]), int(match["month"]), int(match["day"])
    if match["bc"] is None and year <= MAXYEAR:
        return False
    date(2000 + (1 - year if match["bc"] else year) % 400, month, day)  # the calendar repeats every 400 years
    when = (1 - year if match["bc"] else year, month, day)
    if year == 0 or not _FIRST_DAY <= when < (last + 1, 1, 1):
        raise ValueError("Postgres can't store this year")
    return True


def _timestamp(text: str) -> str:
    """Returns ISO 8601 without a zone. Years that Python doesn't have must already be in that form."""
    far = _FAR_TIME.fullmatch(text)
    if text in _ENDLESS or (far and _is_far(far, last=_LAST_TIME)):
        if far and far["zone"]:
            raise ValueError(_NO_ZONE)
        return text
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        raise ValueError(_NO_ZONE)
    return _iso(moment)


def _timestamptz(text: str) -> str:
    """Returns ISO 8601 in UTC with a Z. Years that Python doesn't have must already be in that form."""
    far = _FAR_TIME.fullmatch(text)
    if text in _ENDLESS or (far and _is_far(far, last=_LAST_TIME)):
        if far and not far["zone"]:
            raise ValueError(_ZONE_NEEDED)
        return text
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(_ZONE_NEEDED)
    return _iso(moment.astimezone(UTC).replace(tzinfo=None)) + "Z"


def _iso(moment: datetime) -> str:
    """Formats a timestamp as Postgres does, without trailing zeros in the fraction."""
    fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    return moment.replace(microsecond=0).isoformat() + fraction


def _boolean(text: str) -> str:
    """Returns a boolean of JSON or SQL as Postgres casts it to text."""
    if text.lower() in ("true", "t"):
        return "true"
    if text.lower() in ("false", "f"):
        return "false"
    raise ValueError("expected true or false")


_INTEGERS = {"smallint": 2**15, "integer": 2**31, "bigint": 2**63}
"""The types of integers, with the first number that is too large."""
_FORMS: Mapping[str, Callable[[str], int | str]] = {
    **{kind: _integer(limit) for kind, limit in _INTEGERS.items()},
    "numeric": _numeric,
    "date": _date,
    "timestamp without time zone": _timestamp,
    "timestamp with time zone": _timestamptz,
    "uuid": lambda text: str(UUID(text)),
    "boolean": _boolean,
    "character": lambda text: text.rstrip(" "),
}
