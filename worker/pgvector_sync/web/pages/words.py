"""How the status page words numbers, durations and states, and finds the commands in advice. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

from pgvector_sync.model import State
from pgvector_sync.observe.level import Level
from pgvector_sync.store.drift import Drift, Figures

NOTHING = "–"  # noqa: RUF001  a dash in a table
COMMAND = re.compile(
    r"`(?P<quoted>[^`]+)`"
    r"|(?P<ours>pgvector-sync [a-z][\w-]*(?: (?:--?[\w-]+|\"[^\"]*\"|'[^']*'|[\w.-]*\w))*?)"
    r"(?= shows| \(|[;,:)]|\. |\.?$| or | and | to | compares)"
    r"|(?P<sql>(?:ALTER|CREATE|DROP|GRANT|REINDEX|REVOKE|SELECT) [^;]+;)"
)
"""A command of ours, a statement, or anything in backquotes, within a text for people."""
STATES = {state: state.words.capitalize() for state in State}
LOOKS = {
    State.ACTIVE: "good",
    State.BACKFILLING: "busy",
    State.COOLING_DOWN: "warning",
    State.MISCONFIGURED: "bad",
    State.PAUSED: "off",
    State.REMOVING: "off",
}
"""The class of a state, which decides its symbol and colour."""
LEVELS = {Level.OK: "good", Level.WARNING: "warning", Level.ERROR: "bad"}
RUN_LOOKS = {"running": "busy", "finished": "good", "cancelled": "off", "failed": "bad"}


def duration(value: timedelta | None, *, nothing: str = NOTHING) -> str:
    """Return a duration in one or two units: `0.4 s`, `12 s`, `3 min`, `2 h 10 min`, `3 d 4 h`."""
    if value is None:
        return nothing
    seconds = max(value.total_seconds(), 0.0)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days:,} d {hours} h" if hours else f"{days:,} d"


def short(number: float) -> str:
    """Return a number in at most four digits: `950`, `12.3k`, `4.5M`."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size * 0.9995:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}" if number < 10 and number != int(number) else f"{number:.0f}"


def rate(rows_per_second: float) -> str:
    return f"{rows_per_second:,.1f}" if 0 < rows_per_second < 100 else f"{rows_per_second:,.0f}"


def money(usd: float | None) -> str:
    """Return US dollars to the cent; `< $0.01` for less."""
    if usd is None:
        return NOTHING
    if usd == 0:
        return "$0"
    return "< $0.01" if usd < 0.01 else f"${usd:,.2f}"


def size(count: int | None) -> str:
    """Return bytes in binary units: `8 kB`, `1.5 GB`, as pg_size_pretty names them."""
    if count is None:
        return "unknown"
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if value < 1024 or unit == "TB":
            return f"{value:.0f} {unit}" if value >= 10 or unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError


def percent(share: float) -> str:
    """Return a share that is 0 % or 100 % only if it is exactly that."""
    if share in (0, 1):
        return f"{share:.0%}".replace("%", " %")
    return f"{min(max(share * 100, 0.1), 99.9):.1f} %".replace(".0 %", " %")


def drifted(figures: Figures) -> str:
    """Return how many rows have drifted and in which way; "" for none."""
    counts = ((kind.value.replace("_", " "), getattr(figures, kind.value)) for kind in Drift)
    return ", ".join(f"{count:,} {kind}" for kind, count in counts if count)


def commands(advice: str) -> Iterator[tuple[bool, str]]:
    """Split a text into (whether it is a command, text)."""
    end = 0
    for found in COMMAND.finditer(advice):
        if found.start() > end:
            yield False, advice[end : found.start()]
        yield True, next(filter(None, found.groups()))
        end = found.end()
    if end < len(advice):
        yield False, advice[end:]
