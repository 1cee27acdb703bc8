"""What differs between a pipeline of the file and the one that is stored, and what can't be changed."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from pgvector_sync.database import Connection
from pgvector_sync.declare.file import PipelineConfig
from pgvector_sync.engine.schedule import as_written
from pgvector_sync.errors import Refused
from pgvector_sync.model import Pipeline, Source
from pgvector_sync.store import target_table
from pgvector_sync.store.expressions import same_meaning
from pgvector_sync.store.probe import Expressions

REFILLING = ("text", "where", "model", "dimensions")
"""Changes after which every row is read again."""


@dataclass(frozen=True)
class Change:
    """One difference between file and database, in words for a person."""

    what: str
    before: str
    after: str


def changes_of(
    connection: Connection,
    existing: Pipeline,
    wanted: PipelineConfig,
    source: Source,
    text_given: str,
    meant: Expressions,
    *,
    there: bool,
) -> tuple[tuple[Change, ...], bool]:
    """The differences, and whether the target, if it is `there`, has its column retyped.

    Raises Refused for what can't be changed.
    """
    if existing.source.label != source.label:
        raise Refused(
            f"its source is {existing.source.label}",
            hint=f"pgvector-sync remove {wanted.name} --keep-vectors, then apply, with "
            f'target = "{existing.target_label}": the vectors that still fit are taken over',
        )
    pairs = [
        ("text", existing.text_given, text_given),
        ("where", existing.where_given or "(all rows)", wanted.where or "(all rows)"),
        *_meant_differently(connection, existing, wanted, source, text_given, meant),
        ("model", existing.spec.model, wanted.model),
        ("dimensions", str(existing.spec.dimensions), str(wanted.dimensions)),
        ("vector_type", existing.vector_type.value, wanted.vector_type.value),
        ("provider", existing.provider.name, wanted.provider),
        ("metric", existing.metric.value, wanted.metric.value),
        ("batch_size", str(existing.batch_size or "default"), str(wanted.batch_size or "default")),
        ("tokens_per_day", str(existing.tokens_per_day or "no limit"), str(wanted.tokens_per_day or "no limit")),
        ("price", _price(existing.usd_per_million_tokens), _price(wanted.usd_per_million_tokens)),
        ("reconcile", as_written(existing.schedule), as_written(wanted.schedule)),
    ]
    changes = tuple(Change(*pair) for pair in pairs if pair[1] != pair[2])
    retype = there and any(change.what in ("dimensions", "vector_type") for change in changes)
    if retype and target_table.filled(connection, (existing.target_schema, existing.target_table)):
        raise Refused(
            f"{existing.target_label} holds {existing.vector_type.value}({existing.spec.dimensions}) vectors, "
            f"which {wanted.vector_type.value}({wanted.dimensions}) would make unusable",
            hint="declare a second pipeline with the new dimensions, switch your queries to its target when "
            f"`status` says it is fresh, then `pgvector-sync remove {wanted.name}`",
        )
    return changes, retype


def _meant_differently(
    connection: Connection,
    existing: Pipeline,
    wanted: PipelineConfig,
    source: Source,
    text_given: str,
    meant: Expressions,
) -> list[tuple[str, str, str]]:
    """The same spelling that is resolved in another way by now: the search_path has changed, say."""
    pairs = []
    if existing.text_given == text_given and not same_meaning(connection, source, existing.text_sql, meant.text):
        pairs.append(("text", existing.text_sql, meant.text))
    before, after = existing.where_sql, meant.where
    same = before is None or after is None or same_meaning(connection, source, before, after)
    if existing.where_given == wanted.where and not same:
        pairs.append(("where", before or "", after or ""))
    return pairs


def _price(usd_per_million_tokens: Decimal | None) -> str:
    if usd_per_million_tokens is None:
        return "list price"
    return f"${usd_per_million_tokens.normalize():f} a million tokens"
