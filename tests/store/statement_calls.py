"""Calls of every function that composes a statement, for one pipeline. What they run is rolled back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
from psycopg import sql

from pgvector_sync.database import statements as loader
from pgvector_sync.model import IndexPlan, KeyColumn, Method, Passage, Storage, VectorType
from pgvector_sync.model.search import QueryVector
from pgvector_sync.store import (
    catalog,
    coverage,
    drift,
    expressions,
    grants,
    index_build,
    index_ddl,
    index_facts,
    index_status,
    leases,
    parsing,
    partitions,
    pipelines,
    poll,
    proposals,
    recall,
    recall_history,
    rehearsal,
    rows,
    runs,
    samples,
    search,
    sizes,
    source,
    status,
    stored,
    target_ddl,
    target_table,
    triggers,
    trust,
    usage,
    watch,
    work,
)
from pgvector_sync.store.capture import Capture
from pgvector_sync.store.catalog import Table
from pgvector_sync.store.conditions import Condition
from pgvector_sync.store.due_hints import DueHints
from pgvector_sync.store.key_change import KeyChange
from pgvector_sync.store.leases import Lease
from pgvector_sync.store.parsing import Expressions
from pgvector_sync.store.shape import Shape
from pgvector_sync.store.usage import Spent
from pgvector_sync.store.work import Holding

MINUTE = timedelta(minutes=1)
KEYS = [(1,), (2,)]
VECTOR = np.ones(8, dtype=np.float32)
AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class One:
    """The pipeline for which everything is composed."""

    shape: Shape
    table: Table

    @property
    def target(self) -> tuple[str, str]:
        return self.shape.pipeline.target_schema, self.shape.pipeline.target_table

    @property
    def capture(self) -> Capture:
        """The version of PostgreSQL 18, whatever version runs the test."""
        return Capture(
            source=self.shape.pipeline.source,
            owner="owner",
            tracked=("id", "body"),
            toastable=frozenset({"body"}),
            bytewise=frozenset({"id", "body"}),
            targets=(self.target,),
            replicated=True,
            partitioned=False,
            partitions=(),
            server_version=180000,
            spill_limited=False,
        )


Call = Callable[[psycopg.Connection[Any], One], object]


def _text_limit(call: Callable[..., object], *arguments: Any, **more: Any) -> Call:
    return lambda c, one: call(c, one.shape, *arguments, text_limit=1_000, **more)


def _create(c: psycopg.Connection[Any], one: One) -> None:
    pipeline = one.shape.pipeline
    target_ddl.create(
        c, ("public", "another"), pipeline.source, one.table, pipeline.spec,
        vector_type=VectorType.VECTOR, vector_schema="public", pipeline=pipeline.name,
    )  # fmt: skip


def _build(c: psycopg.Connection[Any], one: One) -> None:
    """Compose only: CREATE INDEX CONCURRENTLY runs outside of a transaction."""
    for plan in (IndexPlan(method=Method.HNSW), IndexPlan(method=Method.IVFFLAT, storage=Storage.BIT, lists=9)):
        c.texts.append(index_ddl.create(one.shape, plan, "another").as_string(c))  # type: ignore[attr-defined]
    at_once = index_ddl.create(one.shape, plan, "another", concurrently=False)
    c.texts.append(at_once.as_string(c))  # type: ignore[attr-defined]


def _replace(c: psycopg.Connection[Any], one: One) -> None:
    """Compose only, as above."""
    for query in (index_ddl.drop("public", "another"), index_ddl.rename("public", "another", "new")):
        c.texts.append(query.as_string(c))  # type: ignore[attr-defined]


def _held(c: psycopg.Connection[Any], one: One) -> None:
    """Runs the statements about the process that carries out a build."""
    requested = index_build.request(
        c, one.shape.pipeline, IndexPlan(method=Method.HNSW), replace=False, declared=False
    )
    assert requested is not None
    build = index_build.find(c, requested)
    assert build is not None
    index_build.take(c, build, 1)
    index_build.stop(c, build.id)


def _rehearse(c: psycopg.Connection[Any], one: One) -> None:
    with c.transaction(force_rollback=True):  # its table exists only meanwhile
        rehearsal.create(c, one.shape)  # type: ignore[arg-type]
        rehearsal.copy_real(c, one.shape, without=["[1,2,3,4,5,6,7,8]"], limit=9)  # type: ignore[arg-type]
        c.texts.append(rehearsal.receiving(one.shape).as_string(c))  # type: ignore[attr-defined]
        rehearsal.analyze(c, one.shape)  # type: ignore[arg-type]
        rehearsal.sizes(c, one.shape)  # type: ignore[arg-type]
        rehearsal.drop(c, one.shape)  # type: ignore[arg-type]


def _standing(c: psycopg.Connection[Any], one: One) -> target_table.Standing:
    standing = target_table.find(c, one.target)
    assert standing is not None
    return standing


def _judge(c: psycopg.Connection[Any], one: One) -> None:
    """Judges a page: `drift.page` does so only if a row differs."""
    params = {"dimensions": one.shape.pipeline.spec.dimensions, "chunks": 1, "keys": []}
    c.execute(drift._judge(one.shape), coverage.params(one.shape, 1_000) | params)


def _unplaced(c: psycopg.Connection[Any], one: One) -> None:
    """Runs the statement for a source with partitions."""
    query = loader.statement("partitions.unplaced")
    c.execute(query.format(**stored.fragments(one.shape), placed=partitions._accepts("(id > 7)")), {"keys": []})


def _shared(c: psycopg.Connection[Any], _: One) -> None:
    """Runs the statement for functions that look names up when they run."""
    query = loader.statement("expressions.shared").format(trusts_owner=trust.trusts("object.owner"))
    c.execute(query, {"schemas": ["public"]})


def _revoked(c: psycopg.Connection[Any], one: One) -> None:
    c.execute("GRANT EXECUTE ON FUNCTION pgvector_sync.insert_1() TO pg_monitor")
    triggers.revoke_from_others(c, one.capture)


MEANT = Expressions(columns=("body",), text="body", where=None, depends=(), loose=())


def _added(c: psycopg.Connection[Any], one: One) -> None:
    pipelines.add(
        c, "other", source=one.shape.pipeline.source, target=("public", "other"), meant=MEANT, read_columns=["id"],
        options=one.shape.pipeline.options,
    )  # fmt: skip


def _compared(one: One, storage: Storage | None = None) -> recall.Compared:
    return recall.Compared(one.shape, 10, Condition.without_params("id > 7"), storage)


CONDITIONS = [sql.SQL("(id > 7)")]
QUERY = QueryVector("docs", "m", 1, VECTOR.tolist())
WANTED = search.Wanted(10, Condition.without_params("id > 7"), after=search.Place(0.5, (1,), 0))
RECALL_QUERY = recall.Query(str(QUERY), (1,))
CALLS: list[Call] = [
    lambda c, one: coverage.not_covered(c, one.shape, text_limit=1_000),
    _text_limit(coverage.count),
    _text_limit(drift.page, (1,), limit=100, deep=True),
    _text_limit(drift.page, None, limit=100, deep=False),
    _judge,
    lambda c, one: expressions.explain(c, one.shape.source, one.shape.wanted),
    lambda c, one: expressions._first_rows(c, one.shape.pipeline.source, "body", "id > 7", "public"),
    _shared,
    lambda c, one: parsing.understand(c, one.shape.pipeline.source, one.table, "body", "id > 7"),
    lambda c, _: grants.lacking(c),
    lambda c, _: grants.only_reads(c),
    lambda c, _: grants.only_searches(c),
    lambda c, _: grants.excess(c),
    lambda c, _: grants.writable_sources(c),
    lambda c, _: grants.require_sole_author(c),
    lambda c, _: grants.repeat(c),
    lambda c, one: grants.grant_target(c, one.target),
    lambda c, one: grants.closed_to_workers(c, one.table.oid),
    lambda c, one: partitions.unplaced(c, one.shape, KEYS),
    lambda c, one: pipelines.find_pipeline(c, one.shape.pipeline.name),
    lambda c, _: pipelines.providers(c),
    lambda c, one: pipelines.put_provider(c, one.shape.pipeline.provider),
    _added,
    lambda c, one: pipelines.change(
        c, one.shape.pipeline, meant=MEANT, read_columns=["id"], options=one.shape.pipeline.options, bump=True
    ),
    _unplaced,
    lambda c, one: partitions.remember_if_empty(c, one.shape.pipeline.id, one.target, one.table.oid),
    lambda c, _: poll.look(c, after_id=0, grace=MINUTE, jobs=["a"], hints=DueHints()),
    lambda c, _: runs.due_runs(c),
    lambda c, _: runs.reconciling(c),
    lambda c, _: work.due(c, limit=1, hints=DueHints()),
    lambda c, one: Holding(one.shape.pipeline, UUID(int=1)).ack(c, ["(0,1)"], stored=1, removed=1, absent=0, unchanged=0),
    lambda c, one: leases.end(c, one.shape.pipeline.id, UUID(int=1)),
    lambda c, _: leases.expire(c, grace=MINUTE),
    lambda c, one: usage.note(c, one.shape.pipeline, Spent(1, 2, Decimal(3), 4, 5, 6, 7, 8, 9, [("ok", 0.1)])),
    lambda c, _: runs.claim(c, 1, Lease(UUID(int=1), "host:family:1", MINUTE, MINUTE)),
    lambda c, one: samples.count(c, one.shape, CONDITIONS, text_limit=1_000),
    lambda c, one: samples.sample(c, one.shape, [*CONDITIONS, source.is_stale(one.shape)], limit=9, text_limit=1_000),
    lambda c, one: samples.sample_blocks(c, one.shape, CONDITIONS, percent=5, limit=9, text_limit=1_000),
    lambda c, one: search.prepare(c, one.shape.pipeline, WANTED),
    _rehearse,
    lambda c, one: index_facts.sample(c, one.shape, rows=9_000, limit=9),
    lambda c, one: search.nearest(c, one.shape, QUERY, WANTED),
    lambda c, one: search.nearest(c, one.shape, QUERY, WANTED, exact=True),
    lambda c, one: search.nearest(c, one.shape, QUERY, replace(WANTED, after=None, columns=["id"])),
    lambda c, one: search.nearest(c, one.shape, QUERY, replace(WANTED, through=Storage.HALFVEC)),
    lambda c, one: search.nearest(c, one.shape, QUERY, replace(WANTED, through=Storage.BIT)),
    lambda c, one: search.is_approximate(c, one.shape, QUERY, WANTED),
    lambda c, one: search.explain(c, one.shape, QUERY, WANTED),
    lambda c, one: index_status.vector_indexes(c, one.table.oid),
    lambda c, one: index_status.target_rows(c, one.table.oid),
    lambda c, one: target_table.indexes(c, one.table.oid),
    lambda c, one: recall_history.claim(c, [one.shape.pipeline]),
    lambda c, one: catalog.describe(c, one.table.oid),
    lambda c, _: proposals.tables(c),
    lambda c, _: status.pipelines(c, limit=9),
    lambda c, one: sizes.estimated_rows(c, one.table.oid),
    lambda c, one: sizes.count_up_to(c, one.shape.source, wanted=one.shape.wanted, limit=9),
    lambda c, one: sizes.estimate(c, one.shape.source, one.shape.wanted),
    lambda c, one: recall.count(c, _compared(one)),
    lambda c, one: recall.sample(c, _compared(one), limit=9, seed=1),
    lambda c, one: recall.sample(c, _compared(one), limit=9, seed=1, percent=5),
    lambda c, one: recall.exact(c, _compared(one), RECALL_QUERY),
    lambda c, one: recall.answered(c, _compared(one), recall.Query(str(QUERY))),
    lambda c, one: recall.answered(c, _compared(one, Storage.BIT), RECALL_QUERY),
    lambda c, one: recall.index_used(c, recall.Compared(one.shape, 10, storage=Storage.HALFVEC), RECALL_QUERY),
    _text_limit(rows.read, KEYS),
    _text_limit(rows.texts, KEYS),
    _text_limit(rows.look, KEYS),
    lambda c, one: rows.page(
        c, one.shape, (1,), limit=9, text_limit=1_000, since=AT,
        conditions=[source.is_concerned(one.shape), source.is_stale(one.shape), source.is_older(one.shape)],
    ),
    lambda c, one: rows.matching(c, one.shape, KEYS, CONDITIONS, text_limit=1_000, since=None),
    lambda c, one: rows.require_open_to_writes(c, one.shape),
    lambda c, one: rows.reusable(c, one.shape, [b"1"]),
    lambda c, one: rows.known(c, one.shape, [b"1"]),
    lambda c, one: rows.write(c, one.shape, [(Passage(key, 0, "", b"1"), VECTOR) for key in KEYS]),
    lambda c, one: rows.trim(c, one.shape, KEYS),
    lambda c, one: rows.remove(c, one.shape, KEYS),
    lambda c, one: rows.lock_page(c, one.shape, (1,), limit=9),
    lambda c, one: rows.remove_orphans(c, one.shape, KEYS),
    _create,
    lambda c, one: target_ddl.retype(
        c, one.target, one.shape.pipeline.spec, vector_type=VectorType.HALFVEC, vector_schema="public"
    ),
    lambda c, one: target_ddl.retype_keys(
        c, one.target, one.table, [KeyChange(KeyColumn("id", "integer"), KeyColumn("id", "bigint"))]
    ),
    lambda c, one: target_ddl.rename_keys(
        c, one.target, [KeyChange(KeyColumn("id", "bigint"), KeyColumn("number", "bigint"))]
    ),
    lambda c, one: target_ddl.drop(c, one.target),
    _build,
    _replace,
    _held,
    lambda c, one: target_table.count_orphans(c, _standing(c, one), one.shape.pipeline.source),
    lambda c, one: target_table.filled(c, one.target),
    lambda c, _: triggers.installed(c, 1),
    lambda c, one: triggers.touch(c, (one.table.schema, one.table.table)),
    lambda c, one: triggers.drop(c, one.shape.pipeline.source),
    _revoked,
    lambda c, one: trust.strangers(c, one.shape.pipeline.source, ["id", "body"], [], one.target),
    lambda c, _: watch.read_facts(c),
    lambda c, _: watch.forget_unread(c),
]  # fmt: skip
"""The functions that compose and run statements."""
