"""The reasons of an advice, as sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from pgvector_sync.index.candidates import Candidate
from pgvector_sync.index.facts import Facts, Goal, Measured
from pgvector_sync.index.known_bugs import Bug
from pgvector_sync.index.phrases import share, size
from pgvector_sync.model import Method, Storage

CHURN = 0.01
"""A share of the rows per day from which an IVFFlat index, whose centres never move, is rebuilt each month."""


def of_size(facts: Facts, rows: int, horizon: timedelta) -> Iterator[str]:
    yield f"{facts.vectors:,} vectors of {facts.dimensions:,} dimensions, compared by {facts.metric.value}"
    if (facts.source_rows or 0) > facts.vectors * 1.1:
        yield f"the source has about {facts.source_rows:,} rows, which are planned for: not all have a vector yet"
    if facts.growth_per_day is None:
        yield "growth is unknown, since the history is shorter than a day"
    elif facts.growth_per_day >= 1:
        yield f"the source grows by {facts.growth_per_day:,.0f} rows per day: {rows:,} rows in {horizon.days} days"
    if facts.churn_per_day and facts.churn_per_day >= 1:
        yield (
            f"{facts.churn_per_day:,.0f} vectors are replaced per day "
            f"({share(facts.churn_per_day / facts.vectors)}): each leaves a dead entry in an index until VACUUM"
        )
    if facts.sample.zeros:
        yield (
            f"{facts.sample.zeros:,} of {facts.sample.vectors:,} sampled vectors are zero: they have no "
            "direction, so an index over cosine leaves them out"
        )


def of_method(facts: Facts, chosen: Candidate, allowed: str) -> Iterator[str]:
    if chosen.method is Method.HNSW:
        yield (
            "HNSW finds more per millisecond than IVFFlat, and stays good while rows come and go "
            f"(pgvector's README); it takes {size(chosen.bytes)}, and {size(chosen.memory)} with its build"
        )
    else:
        yield (
            f"IVFFlat, because an HNSW graph doesn't fit into {allowed}: it takes {size(chosen.bytes)} and is "
            "built quickly, but needs more time for the same recall (pgvector's README)"
        )
        yield "its lists are those of the rows that exist at the build: build it after the backfill"
        if facts.churn_per_day and facts.churn_per_day > CHURN * facts.vectors:
            changed = share(facts.churn_per_day / facts.vectors)
            yield f"{changed} of the vectors change per day: rebuild it every month"
    if chosen.storage is Storage.HALFVEC and facts.column is Storage.VECTOR:
        kept = facts.sample.half_recall
        seen = "" if kept is None else f": in a sample, {share(kept)} of the nearest neighbours are the same"
        yield f"half the precision halves the index{seen}; candidates are ranked again by the full vectors"
    if chosen.storage is Storage.BIT:
        yield (
            "one bit per number makes the smallest index; candidates are ranked again by the full vectors. In a "
            f"sample, {share(facts.sample.bit_recall or 0)} of the neighbours are among them, in all rows fewer"
        )


def of_bugs(facts: Facts, bugs: list[Bug]) -> Iterator[str]:
    for bug in bugs:
        yield f"pgvector {facts.pgvector} has a bug that {bug.fixed_in} fixes: {bug.label}"


def of_setting(facts: Facts, goal: Goal, chosen: Candidate, measured: Measured | None) -> Iterator[str]:
    if measured is not None and measured.value is not None:
        yield (
            f"measured with {measured.queries:,} stored vectors as queries: recall {measured.recall:.3f} with "
            f"{measured.value} through {measured.index}. Real queries are harder: pgvector-sync index recall "
            f"{facts.pipeline} --queries-file F --sweep"
        )
    elif measured is None:
        yield (
            "the value for searches is a start value, since vectors differ: after the build, "
            f"`pgvector-sync index recall {facts.pipeline} --sweep` measures the one that reaches {goal.recall:g}"
        )
    if chosen.method is Method.HNSW and facts.build is None:
        yield "the time of the build isn't predicted, since no build of this pipeline was measured yet"
