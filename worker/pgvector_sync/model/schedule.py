"""The schedule of a pipeline's reconciliations, and how it is written in the file and in JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Any, get_type_hints

from annotated_types import Ge, Gt, Le


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a type that TOML and JSON don't have is written in them. `read` raises ValueError."""

    read: Callable[[Any], Any]
    write: Callable[[Any], str]


_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1), "s": timedelta(seconds=1)}
_SPAN = re.compile(rf"(\d{{1,6}})([{''.join(_UNITS)}])")
_OFF = "off"


def _read_span(value: object) -> timedelta | None:
    """Reads `90s`, `30m`, `6h` or `1d`; `off` is None."""
    if value == _OFF:
        return None
    match = _SPAN.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) == 0:
        raise ValueError('expected a duration such as "30m", "6h" or "1d", or "off"')
    return int(match[1]) * _UNITS[match[2]]


def _write_span(span: timedelta | None) -> str:
    if span is None:
        return _OFF
    unit = next(unit for unit, length in _UNITS.items() if not span % length)
    return f"{span // _UNITS[unit]}{unit}"


def _read_window(value: object) -> tuple[time, time]:
    """Reads `22:00-05:00`; a window may span midnight."""
    try:
        begin, _, end = value.partition("-") if isinstance(value, str) else ("", "", "")
        window = time.fromisoformat(begin.strip()), time.fromisoformat(end.strip())
    except ValueError:
        window = time(), time()
    if window[0] == window[1] or any(at.tzinfo for at in window):
        raise ValueError('expected two times of the day in UTC, such as "22:00-05:00"')
    return window


def _write_window(window: tuple[time, time]) -> str:
    return "-".join(at.isoformat().removesuffix(":00") for at in window)


def _read_cron(value: object) -> str:
    from cronsim import CronSim, CronSimError

    try:
        CronSim(str(value), datetime.now(UTC))
    except CronSimError as error:
        raise ValueError(f"expected five cron fields, such as 0 3 * * *: {error}") from None
    return str(value)


Span = Annotated[timedelta | None, Spelling(_read_span, _write_span)]
Window = Annotated[tuple[time, time] | None, Spelling(_read_window, _write_window)]


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a pipeline is reconciled automatically, and how much load that may cause. Times are UTC.

    To add an option to the section `reconcile`, add a field.
    """

    every: Span = timedelta(days=1)
    """The interval between reconciliations; None: none, unless `cron` is set."""
    cron: Annotated[str | None, Spelling(_read_cron, str)] = None
    """Five cron fields, instead of `every`."""
    deep_every: Span = timedelta(days=7)
    """The interval after which a reconciliation also compares texts and vectors; None: never."""
    window: Window = None
    """Begin and end of the daily time window outside of which reconciliations pause."""
    page_rows: Annotated[int, Ge(1), Le(1_000_000)] = 20_000
    database_share: Annotated[float, Gt(0), Le(1)] = 0.5
    """The maximum share of one connection's time."""
    orphan_share: Annotated[float, Ge(0), Le(1)] = 0.2
    """The maximum share of vectors that may be removed as orphaned without confirmation (G12)."""

    @classmethod
    def read(cls, written: Mapping[str, Any]) -> Schedule:
        """Reads what `written` returns. Missing options have their defaults."""
        return cls(**{n: _SPELLINGS[n].read(v) if n in _SPELLINGS else v for n, v in written.items()})

    def written(self) -> dict[str, Any]:
        """Returns what differs from the defaults, as written in the file."""
        differing = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: _SPELLINGS[name].write(value) if name in _SPELLINGS else value
            for name, value in differing.items()
            if value != getattr(DAILY, name)
        }

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.written().items()) or "default"


def spellings(options: type) -> dict[str, Spelling]:
    """Returns the spelling of each field of an options dataclass that has one."""
    hints = get_type_hints(options, include_extras=True)
    return {
        name: extra
        for name, hint in hints.items()
        for extra in getattr(hint, "__metadata__", ())
        if isinstance(extra, Spelling)
    }


_SPELLINGS = spellings(Schedule)
DAILY = Schedule()
"""The default schedule."""


def in_window(window: tuple[time, time], now: datetime) -> bool:
    """Whether `now` is within a daily time window (UTC), which may span midnight."""
    begin, end = window
    at = now.astimezone(UTC).time()
    return begin <= at < end if begin < end else at >= begin or at < end
