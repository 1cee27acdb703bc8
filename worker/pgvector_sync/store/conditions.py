"""Conditions in SQL that users write: their parameters, and the check that one is a single boolean expression."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import psycopg
from psycopg import sql

from pgvector_sync.database import Connection, reading
from pgvector_sync.errors import Refused
from pgvector_sync.model import Source
from pgvector_sync.store import expressions
from pgvector_sync.store.shape import Shape

_PERCENT = re.compile(r"%(?:\((?P<name>[^()]+)\)(?P<format>[sbt])|(?P<other>.?))", re.DOTALL)
_UNKNOWN = ("42883", "42704", "42P01")
"""SQLSTATEs of an unknown function, operator, type or table."""
_QUALIFY = (
    "names are looked up in pg_catalog only: write public.f(x), a OPERATOR(public.=) b, x::public.t, public.table"
)
_EXPECTED = """expected an expression over the row's columns, such as "updated_at < '2026-01-01'" """.strip()


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition, with `%(name)s` in place of values that are sent separately."""

    text: str
    """For a statement with parameters: percent signs are doubled."""
    params: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def without_params(cls, where: str) -> Self:
        """Returns a condition in which a percent sign has no meaning."""
        return cls(where.replace("%", "%%"))

    @classmethod
    def with_params(cls, where: str, params: Mapping[str, Any] | None) -> Self:
        """Returns a condition with parameters, named so that they differ from those of our statements.

        If `params` is None, percent signs stand for themselves. Raises Refused for a missing parameter, and for
        an empty condition.
        """
        if not where.strip() or "\0" in where:
            raise Refused("the condition is empty, or has a NUL character", hint=_EXPECTED)
        used = dict.fromkeys(match["name"] for match in _PERCENT.finditer(where) if match["name"])
        if missing := [name for name in used if name not in (params or {})]:
            raise Refused(
                f"`where` needs a value for {', '.join(missing)}",
                hint=f"params={{{', '.join(f'{name!r}: …' for name in missing)}}}",
            )
        if params is None:
            return cls.without_params(where)
        return cls(_PERCENT.sub(_renamed, where), {_own(name): params[name] for name in used})

    @property
    def sql(self) -> sql.SQL:
        """The condition in parentheses. A line break ends a trailing comment."""
        return sql.SQL(f"({self.text}\n)")


def _own(name: str) -> str:
    return f"where.{name}"


def _renamed(match: re.Match[str]) -> str:
    if match["name"]:
        return f"%({_own(match['name'])}){match['format']}"
    if match["other"] == "%":
        return "%%"
    raise Refused(
        "`where` contains a single percent sign",
        hint="with params, write %% for a percent sign, and %(name)s for a parameter",
    )


def require_valid(connection: Connection, shape: Shape, condition: Condition) -> None:
    """Raises Refused unless it is one boolean expression over the source. It is planned, but not executed."""
    # With our parentheses it can't continue with another clause, without them it can't close ours: "a) OR (b".
    forms = (condition.sql, sql.SQL(condition.text))
    try:
        with reading(connection):
            for form in forms:
                expressions.explain(connection, shape.source, form, condition.params)
    except psycopg.Error as error:
        if (refusal := refused(error, shape.pipeline.source)) is None:
            raise
        raise refusal from None


def refused(error: psycopg.Error, source: Source) -> Refused | None:
    """Returns the error for a condition that can't be planned; None if the error has another cause."""
    if error.sqlstate is None and isinstance(error, psycopg.ProgrammingError | psycopg.DataError):
        # psycopg can't send a value; it names the type, not the value
        return Refused(f"a parameter of the condition can't be sent: {error}", hint="send it as another type")
    if not (error.sqlstate or "").startswith(("42", "22", "0A")):
        return None
    # the message names columns and functions of the user's own condition
    primary = error.diag.message_primary or "it can't be parsed"
    return Refused(
        f"the condition is not valid for {source.label}: {primary}",
        hint=_QUALIFY if error.sqlstate in _UNKNOWN else _EXPECTED,
    )


@dataclass(slots=True)
class KnownConditions:
    """Conditions that were found valid. Each is checked once: whether it is a single expression doesn't change."""

    size: int = 1_000
    _known: dict[tuple[Source, str], None] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def require_valid(self, connection: Connection, shape: Shape, condition: Condition) -> None:
        """The same as the function, which is called once per condition."""
        known = shape.pipeline.source, condition.text
        with self._lock:
            if known in self._known:
                return
        require_valid(connection, shape, condition)
        with self._lock:
            if len(self._known) >= self.size:
                self._known.clear()
            self._known[known] = None
