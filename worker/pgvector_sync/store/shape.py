"""What a pipeline's statements are composed of: its names, key types and expressions. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, wraps

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
"""Key types that have one canonical form, by the name that format_type gives them without their modifier."""

_MODIFIER = re.compile(r"\([^)]*\)")

TARGET_COLUMNS = ("chunk_no", "chunk", "embedding", "fingerprint", "model", "embedded_at")

_UTC = "pg_catalog.to_jsonb(pg_catalog.timezone(pg_catalog.make_interval(), {0})) #>> '{{}}'"
_KEY_FORMS: Mapping[str, str] = {
    "numeric": "pg_catalog.trim_scale({0})::pg_catalog.text",
    "character": "{0}::pg_catalog.text",
    "boolean": "{0}::pg_catalog.text",
    # in UTC by an interval, since no setting changes what that means; a regular expression would take 9 µs per row
    "timestamp with time zone": "CASE WHEN {0} >= '0001-01-01T00:00:00Z' AND {0} < 'infinity' "
    f"THEN ({_UTC}) || 'Z' ELSE pg_catalog.regexp_replace({_UTC}, '([0-9])( BC)?$', E'\\\\1Z\\\\2') END",
}
"""How a type's values become the one form of a key, where jsonb doesn't do it by itself."""

_KEY = sql.SQL("pgvector_sync_key.key")
TARGET = sql.Identifier("pgvector_sync_target")
"""The target, in a statement that locks or writes it."""


def base_type(type_name: str) -> str:
    """`numeric(10,2)` → `numeric`, `timestamp(3) with time zone` → `timestamp with time zone`."""
    return _MODIFIER.sub("", type_name)


_SAME_KEYS = (("smallint", "integer", "bigint"), ("text", "character varying"))


def same_keys(type_name: str) -> tuple[str, ...]:
    """The key types whose values have the same canonical form: an integer may be widened under a pipeline."""
    kind = base_type(type_name)
    return next((family for family in _SAME_KEYS if kind in family), (kind,))


def expression(user_sql: str) -> sql.SQL:
    """A user's expression in parentheses: percent signs are not placeholders, and a trailing comment ends."""
    return sql.SQL("(" + user_sql.replace("%", "%%") + "\n)")


def text_of_columns(columns: tuple[str, ...]) -> str:
    """The text of `text = [columns]`: joined by a blank line; NULL and empty columns leave no gap."""
    parts = ", ".join(f"nullif({_quoted(name)}::text, '')" for name in columns)
    return f"concat_ws(E'\\n\\n', {parts})"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def name(*parts: str) -> sql.Identifier:
    """A quoted name in a statement with parameters: a percent sign in it is not a placeholder."""
    return sql.Identifier(*(part.replace("%", "%%") for part in parts))


def key_json(
    source: Source, qualifier: sql.Composable, quote: Callable[[str], sql.Identifier] = sql.Identifier
) -> sql.Composed:
    """The canonical key of a row as jsonb, whatever the session's settings are: integers are numbers, all others
    strings. numeric loses trailing zeros, char trailing blanks, dates are ISO, timestamptz is in UTC.

    `quote` is `name` where the statement has parameters.
    """
    parts = []
    for column in source.key:
        value: sql.Composable = qualifier + sql.SQL(".") + quote(column.name)
        parts.append(sql.SQL(_KEY_FORMS.get(base_type(column.type), "{0}")).format(value))
    return sql.SQL("pg_catalog.jsonb_build_array({})").format(sql.SQL(", ").join(parts))


def key_value(index: int, column: KeyColumn, key: sql.Composable) -> sql.Composed:
    return sql.SQL("({} ->> {})::pg_catalog.{}").format(
        key, sql.Literal(index), sql.Identifier(KEY_TYPES[base_type(column.type)])
    )


@dataclass(frozen=True)
class Shape:
    """One pipeline in SQL. `vector_schema` is where pgvector lives: `vector` may be off the path."""

    pipeline: Pipeline
    vector_schema: str
    composed: dict[object, sql.Composed] = field(default_factory=dict, compare=False, repr=False)
    """See `composed_once`."""

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
        """A condition: the row has a text."""
        return sql.SQL("({})::text IS NOT NULL").format(self.text)

    def match(self, qualifier: sql.Composable, key: sql.Composable = _KEY) -> sql.Composed:
        """`qualifier`'s key columns equal the JSON key, one condition a column."""
        return sql.SQL(" AND ").join(
            sql.SQL("{}.{} = {}").format(qualifier, name(column.name), key_value(i, column, key))
            for i, column in enumerate(self._source.key)
        )

    def columns(self, qualifier: sql.Composable | None = None) -> sql.Composed:
        prefix = sql.SQL("") if qualifier is None else qualifier + sql.SQL(".")
        return sql.SQL(", ").join(prefix + name(column.name) for column in self._source.key)

    def compare(self, qualifier: sql.Composable, operator: str, key: sql.Composable) -> sql.Composed:
        """The row's key against a JSON key, in key order: `>`, or `<=`, which isn't the negation to an index."""
        values = sql.SQL(", ").join(key_value(i, column, key) for i, column in enumerate(self._source.key))
        return sql.SQL("({}) {} ({})").format(self.columns(qualifier), sql.SQL(operator), values)

    def after(self, qualifier: sql.Composable, *, from_start: bool) -> sql.Composed:
        """Keyset condition: the row comes after `%(after)s`, a JSON key, in key order."""
        if from_start:
            return sql.Composed([sql.SQL("true")])
        return self.compare(qualifier, ">", sql.SQL("%(after)s::pg_catalog.jsonb"))

    @cached_property
    def fragments(self) -> dict[str, sql.Composable]:
        """What most statements are composed of."""
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
        """A vector of zeros, to compare with: that ends at the first number that is none, which a norm doesn't."""
        zeros = "[" + ",".join("0" * self.pipeline.spec.dimensions) + "]"
        return {
            "equals": sql.SQL("OPERATOR({}.=)").format(name(self.vector_schema)),
            "zeros": sql.SQL("{}::{}").format(sql.Literal(zeros), self.column_type),
        }


def composed_once(compose: Callable[[Shape], sql.Composed]) -> Callable[[Shape], sql.Composed]:
    """Keeps what a function composes as long as the shape: that of a batch is asked for it repeatedly."""

    @wraps(compose)
    def composed(shape: Shape) -> sql.Composed:
        if compose not in shape.composed:
            shape.composed[compose] = compose(shape)
        return shape.composed[compose]

    return composed
