"""The fragments from which a pipeline's statements are composed: names, key types and expressions. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, wraps

from psycopg import sql

from pgvector_sync.model import KeyColumn, Pipeline, Source

KEY_TYPES: Mapping[str, str] = {
    "smallint": "int2",
    "integer": "int4",
    "bigint": "int8",
    "uuid": "uuid",
    "text": "text",
    "character varying": "varchar",
    "character": "bpchar",
    "date": "date",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "numeric": "numeric",
    "boolean": "bool",
}
"""The supported key types. Maps the name that format_type prints, without a modifier, to that of the catalog."""

_MODIFIER = re.compile(r"\([^)]*\)")

TARGET_COLUMNS = ("chunk_no", "chunk", "embedding", "fingerprint", "model", "embedded_at")

_UTC = "pg_catalog.to_jsonb(pg_catalog.timezone(pg_catalog.make_interval(), {0})) #>> '{{}}'"
_KEY_FORMS: Mapping[str, str] = {
    "numeric": "pg_catalog.trim_scale({0})::pg_catalog.text",
    "character": "{0}::pg_catalog.text",
    "boolean": "{0}::pg_catalog.text",
    # UTC as an interval, since no setting changes its meaning; a regular expression would take 9 µs per row
    "timestamp with time zone": "CASE WHEN {0} >= '0001-01-01T00:00:00Z' AND {0} < 'infinity' "
    f"THEN ({_UTC}) || 'Z' ELSE pg_catalog.regexp_replace({_UTC}, '([0-9])( BC)?$', E'\\\\1Z\\\\2') END",
}
"""Conversions to the canonical form, for types for which jsonb_build_array isn't enough."""

_KEY = sql.SQL("pgvector_sync_key.key")
TARGET = sql.Identifier("pgvector_sync_target")
"""The alias of the target, in statements that lock or write it."""


@cache
def base_type(type_name: str) -> str:
    """Removes modifiers: `numeric(10,2)` → `numeric`, `timestamp(3) without time zone` → the same without (3)."""
    return _MODIFIER.sub("", type_name)


_SAME_KEYS = (("smallint", "integer", "bigint"), ("text", "character varying"))


def same_keys(type_name: str) -> tuple[str, ...]:
    """Returns the key types with the same canonical form: an integer column may be widened under a pipeline."""
    kind = base_type(type_name)
    return next((family for family in _SAME_KEYS if kind in family), (kind,))


_BYTEWISE = frozenset(KEY_TYPES) - {"numeric", "character"} | {"bytea"}


def is_bytewise(type_name: str, deterministic: bool) -> bool:
    """Returns whether values of a type are equal only if their binary images are.

    Not so 1.0 and 1.00, values of `json`, or texts under a nondeterministic collation.
    """
    return deterministic and base_type(type_name) in _BYTEWISE


def expression(user_sql: str) -> sql.SQL:
    """Puts a user's expression in parentheses, doubles percent signs, and ends a trailing comment."""
    return sql.SQL("(" + user_sql.replace("%", "%%") + "\n)")


def text_of_columns(columns: tuple[str, ...]) -> str:
    """Returns the expression for `text = [columns]`: joined by blank lines, without NULL and empty columns."""
    parts = ", ".join(f"nullif({_quoted(name)}::text, '')" for name in columns)
    return f"concat_ws(E'\\n\\n', {parts})"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def name(*parts: str) -> sql.Identifier:
    """Quotes a name for a statement with parameters, in which percent signs must be doubled."""
    return sql.Identifier(*(part.replace("%", "%%") for part in parts))


def key_json(
    source: Source, qualifier: sql.Composable, quote: Callable[[str], sql.Identifier] = sql.Identifier
) -> sql.Composed:
    """Composes the canonical key of a row as jsonb, independent of the session's settings.

    Integers become numbers, all other types strings: numeric without trailing zeros, char without trailing blanks,
    dates in ISO 8601, timestamptz in UTC.

    quote: `name`, if the statement has parameters.
    """
    parts = []
    for column in source.key:
        value: sql.Composable = qualifier + sql.SQL(".") + quote(column.name)
        parts.append(sql.SQL(_KEY_FORMS.get(base_type(column.type), "{0}")).format(value))
    return sql.SQL("pg_catalog.jsonb_build_array({})").format(sql.SQL(", ").join(parts))


def key_value(index: int, column: KeyColumn, key: sql.Composable) -> sql.Composed:
    """Composes the value of one key column, read from a JSON key."""
    return sql.SQL("({} ->> {})::pg_catalog.{}").format(
        key, sql.Literal(index), sql.Identifier(KEY_TYPES[base_type(column.type)])
    )


@dataclass(frozen=True)
class Shape:
    """One pipeline's names, types and expressions in SQL."""

    pipeline: Pipeline
    vector_schema: str
    """The schema of pgvector, which may not be on the search_path."""
    composed: dict[object, sql.Composed] = field(default_factory=dict, compare=False, repr=False)
    """The cache of `composed_once`."""

    @cached_property
    def _source(self) -> Source:
        return self.pipeline.source

    @cached_property
    def source(self) -> sql.Identifier:
        return name(self._source.schema, self._source.table)

    @cached_property
    def target(self) -> sql.Identifier:
        return name(self.pipeline.target_schema, self.pipeline.target_table)

    @cached_property
    def vector(self) -> sql.Identifier:
        return name(self.vector_schema, "vector")

    @cached_property
    def column_type(self) -> sql.Composed:
        return sql.SQL("{}({})").format(
            name(self.vector_schema, self.pipeline.options.vector_type.value),
            sql.Literal(self.pipeline.spec.dimensions),
        )

    @cached_property
    def text(self) -> sql.SQL:
        return expression(self.pipeline.text_sql)

    @cached_property
    def wanted(self) -> sql.SQL:
        return expression(self.pipeline.where_sql or "true")

    @cached_property
    def has_text(self) -> sql.Composed:
        """The condition that a row has a text."""
        return sql.SQL("({})::text IS NOT NULL").format(self.text)

    def match(self, qualifier: sql.Composable, key: sql.Composable = _KEY) -> sql.Composed:
        """Composes the condition that `qualifier` has a JSON key, with one comparison per column."""
        return sql.SQL(" AND ").join(
            sql.SQL("{}.{} = {}").format(qualifier, name(column.name), key_value(i, column, key))
            for i, column in enumerate(self._source.key)
        )

    def columns(self, qualifier: sql.Composable | None = None) -> sql.Composed:
        """Composes the list of key columns."""
        prefix = sql.SQL("") if qualifier is None else qualifier + sql.SQL(".")
        return sql.SQL(", ").join(prefix + name(column.name) for column in self._source.key)

    def compare(self, qualifier: sql.Composable, operator: str, key: sql.Composable) -> sql.Composed:
        """Composes a comparison of the row's key with a JSON key, in key order.

        operator: `>` or `<=` (Postgres can't use an index for NOT `>`).
        """
        values = sql.SQL(", ").join(key_value(i, column, key) for i, column in enumerate(self._source.key))
        return sql.SQL("({}) {} ({})").format(self.columns(qualifier), sql.SQL(operator), values)

    def after(self, qualifier: sql.Composable, *, from_start: bool) -> sql.Composed:
        """Composes the condition that the row comes after the JSON key `%(after)s`, in key order."""
        if from_start:
            return sql.Composed([sql.SQL("true")])
        return self.compare(qualifier, ">", sql.SQL("%(after)s::pg_catalog.jsonb"))

    @cached_property
    def fragments(self) -> dict[str, sql.Composable]:
        """The fragments that most statements use, by placeholder."""
        return {
            "source": self.source,
            "target": self.target,
            "text": self.text,
            "wanted": self.wanted,
            "match_source": self.match(self.source),
            "match_target": self.match(TARGET),
        }

    @cached_property
    def zeros(self) -> dict[str, sql.Composable]:
        """The fragments for a comparison with a vector of zeros, which is faster than computing a norm."""
        zeros = "[" + ",".join("0" * self.pipeline.spec.dimensions) + "]"
        return {
            "equals": sql.SQL("OPERATOR({}.=)").format(name(self.vector_schema)),
            "zeros": sql.SQL("{}::{}").format(sql.Literal(zeros), self.column_type),
        }


def composed_once(compose: Callable[[Shape], sql.Composed]) -> Callable[[Shape], sql.Composed]:
    """Caches a composed statement as one piece in its shape, since a batch uses it repeatedly."""

    @wraps(compose)
    def composed(shape: Shape) -> sql.Composed:
        if compose not in shape.composed:
            text = compose(shape).as_string(None)
            shape.composed[compose] = sql.Composed([sql.SQL(text)])
        return shape.composed[compose]

    return composed
