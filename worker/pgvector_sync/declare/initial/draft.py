"""The proposal for a table: its source, key, text, model and target, from what the catalogs say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches

from pgvector_sync.database import Connection
from pgvector_sync.declare.initial.columns import condition, judge, quoted
from pgvector_sync.declare.initial.models import ModelChoice
from pgvector_sync.declare.target import NAME_LIMIT_BYTES
from pgvector_sync.declare.values import read_table
from pgvector_sync.embedding.dialects import dialect_of
from pgvector_sync.embedding.families.proposal import Proposal, proposal_of
from pgvector_sync.embedding.prices import price_of
from pgvector_sync.errors import Refused
from pgvector_sync.model import Options
from pgvector_sync.store import catalog, proposals
from pgvector_sync.store.catalog import Table

BYTES_PER_TOKEN = 4
"""Of English text. `apply --dry-run` reads a sample of the rows and counts."""
NAME_LIMIT = 40


@dataclass(frozen=True, slots=True)
class Draft:
    """A proposed pipeline."""

    name: str
    table: Table
    key: tuple[str, ...]
    is_primary: bool
    """Whether the key is the one that `apply` finds by itself."""
    text: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    where: str | None
    """A condition to consider."""
    target: str
    renamed: str | None
    """Why the target doesn't have its default name; None if it does."""
    model: ModelChoice
    family: Proposal | None
    """The prefixes or parameters that the model expects."""
    tokens: int | None
    """Estimated; None if the statistics of a column are missing."""
    usd: Decimal | None
    """None if the price or the number of tokens isn't known."""


def find_source(connection: Connection, name: str) -> tuple[str, str]:
    """Find (schema, table) of a name as typed. Raises Refused, with similar names, if there is none."""
    known = proposals.relations(connection)
    for schema, table in _readings(name):
        places = [place for place in known if place[1] == table and schema in (None, place[0])]
        if len(places) == 1 or (places and places[0][0] == "public"):
            return places[0]
        if places:
            raise Refused(
                f"there are {len(places)} tables {table}",
                hint="name one with its schema: " + ", ".join(map(label_of, places)),
            )
    raise Refused(f"there is no table {name}", hint=_similar(name, known))


def _readings(name: str) -> list[tuple[str | None, str]]:
    """The name as SQL reads it, and literally, since a shell removes quotes."""
    readings: list[tuple[str | None, str]] = []
    with suppress(ValueError):
        readings.append(read_table(name))
    schema, dot, table = name.partition(".")
    return [*readings, (schema, table) if dot else (None, name), (None, name)]


def _similar(name: str, known: Sequence[tuple[str, str]]) -> str:
    wanted = name.rpartition(".")[2].strip('"').lower()
    near = get_close_matches(wanted, {table.lower() for _, table in known}, n=3, cutoff=0.7)
    labels = [label_of(place) for place in known if place[1].lower() in near][:3]
    if labels:
        return f"did you mean {' or '.join(labels)}?"
    return "list the tables that have text: pgvector-sync init"


def label_of(place: tuple[str, str]) -> str:
    """Return (schema, table) as the file's `source` takes it, with quotes only where they are needed."""
    return ".".join(map(quoted, place))


def draft(connection: Connection, place: tuple[str, str], model: ModelChoice, text: Sequence[str] = ()) -> Draft:
    """Propose a pipeline for a table. `text` are the columns to embed, instead of those that look like text.

    Raises Refused if the table can't be a source, has no usable key, or has no text.
    """
    table = catalog.find_table(connection, *place)
    key, is_primary = _find_key(connection, table)
    facts = proposals.columns(connection, table.oid)
    judged = judge(facts, key=key, rows=table.estimated_rows)
    if text:
        catalog.require_columns(table, tuple(text))
        chosen = [next(column for column in facts if column.name == name) for name in dict.fromkeys(text)]
    else:
        chosen = list(judged.chosen)
    if not chosen:
        raise Refused(
            f"{label_of(place)} has no column that looks like text to embed", hint=_no_text(judged.left_out)
        )
    widths = [column.avg_width for column in chosen]
    tokens = None if None in widths else table.estimated_rows * sum(filter(None, widths)) // BYTES_PER_TOKEN
    name = pipeline_name(table.table)
    target, renamed = _target(connection, table)
    options = Options(
        text="''",
        provider=model.provider.name,
        dialect=model.provider.dialect,
        model=model.model,
        dimensions=model.dimensions,
    )
    return Draft(
        name=name,
        table=table,
        key=key,
        is_primary=is_primary,
        text=tuple(column.name for column in chosen),
        left_out=tuple(pair for pair in judged.left_out if pair[0] not in text),
        where=condition(facts),
        target=target,
        renamed=renamed,
        model=model,
        family=proposal_of(options, model.provider),
        tokens=tokens,
        usd=_cost(model, tokens),
    )


def _find_key(connection: Connection, table: Table) -> tuple[tuple[str, ...], bool]:
    """Return the key that `apply` finds by itself, else another one. Raises Refused if none can be used."""
    try:
        return tuple(column.name for column in catalog.find_key(connection, table, None)), True
    except Refused as refused:
        for names in catalog.unique_keys(connection, table):
            try:
                return tuple(column.name for column in catalog.find_key(connection, table, names)), False
            except Refused:
                continue
        raise refused from None


def _no_text(left_out: Sequence[tuple[str, str]]) -> str:
    if not left_out:
        return 'only columns of a string type are proposed; for others, write an expression: text.sql = "…"'
    reasons = "; ".join(f"{name} {reason}" for name, reason in left_out)
    return f"left out: {reasons}. To embed one of them all the same: --text {left_out[0][0]}"


def pipeline_name(table: str) -> str:
    """Derive a valid name of a pipeline from a table's."""
    name = re.sub(r"[^a-z0-9]+", "_", table.lower()).strip("_")[:NAME_LIMIT].rstrip("_")
    return name if re.match(r"[a-z]", name) else f"t_{name}"[:NAME_LIMIT].rstrip("_")


def _target(connection: Connection, table: Table) -> tuple[str, str | None]:
    """Return the target's name, and why it isn't the default one."""
    default = f"{table.table}_embedding"
    if len(default.encode()) > NAME_LIMIT_BYTES:
        return f"{pipeline_name(table.table)}_embedding", f"{default} is longer than {NAME_LIMIT_BYTES} bytes"
    if catalog.find_relation(connection, table.schema, default) is None:
        return default, None
    stem = pipeline_name(table.table)
    free = (f"{stem}_vectors{number}" for number in ("", *range(2, 1000)))
    name = next(name for name in free if catalog.find_relation(connection, table.schema, name) is None)
    return name, f"{default} exists"


def _cost(model: ModelChoice, tokens: int | None) -> Decimal | None:
    if not dialect_of(model.provider).billed:
        return Decimal(0)
    price = price_of(model.model, model.address)
    return None if price is None or tokens is None else price * tokens / 1_000_000
