"""`index status`: the vector indexes of each target, what is wrong with them, and what to do."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pgvector_sync.database import Database
from pgvector_sync.index.known_bugs import HNSW, IVFFLAT, known_bugs, newest_of, upgrade
from pgvector_sync.model import Pipeline
from pgvector_sync.observe import recall_trend
from pgvector_sync.observe.doctor.check import quoted
from pgvector_sync.observe.doctor.index import judge_indexes
from pgvector_sync.observe.finding import Finding, ok, warning
from pgvector_sync.observe.index_builds import new_indexes, of_last_build
from pgvector_sync.observe.index_declared import differing, serves
from pgvector_sync.observe.level import Level
from pgvector_sync.store import index_status, pipelines, server, target_table
from pgvector_sync.store.catalog import find_relation
from pgvector_sync.store.index_status import TargetRows, VectorIndex
from pgvector_sync.store.recall_history import RecallState
from pgvector_sync.store.server import Extension

DEAD_SHARE = 0.2
"""Autovacuum's default: 20 % of the rows."""
SMALL_ROWS = 1_000
"""Fewer dead rows, or reads of fewer pages, say nothing."""
HIT_RATIO = 0.9
_WORST_FIRST = (Level.ERROR, Level.WARNING, Level.OK)


@dataclass(frozen=True, slots=True)
class IndexState:
    """One vector index of a target."""

    schema: str
    name: str
    method: str
    operator_class: str
    indexed: str
    condition: str | None
    parameters: tuple[str, ...]
    valid: bool
    building: bool
    bytes: int
    bytes_per_row: float | None
    """By the planner's estimate of the rows; None if there is none, or for a partial index."""
    scans: int | None
    cache_hit_ratio: float | None
    """The share of the index's pages that were found in the buffer cache; None if none was read."""
    built_at: datetime | None
    """None if the server doesn't record commit times."""


@dataclass(frozen=True, slots=True)
class TargetIndexes:
    """The vector indexes of a pipeline's target."""

    pipeline: str
    target: str
    metric: str
    rows: int
    """The planner's estimate."""
    dead_rows: int
    counted_since: datetime | None
    """Since when scans are counted; None if they were never reset."""
    pgvector: str | None
    """The version of the library on the server."""
    findings: tuple[Finding, ...]
    """What is wrong and what to do, the worst first."""
    indexes: tuple[IndexState, ...]
    recall: RecallState | None = None
    """The last measurement; None if there is none."""

    @property
    def level(self) -> Level:
        return next((finding.level for finding in self.findings), Level.OK)


def index_state(database: Database, pipeline: str | None = None) -> list[TargetIndexes]:
    """Look at the indexes of one pipeline, or of all; the worst first. Raises Refused if it is unknown."""
    with database.transaction(read_only=True) as connection:
        chosen = (
            pipelines.all_pipelines(connection)
            if pipeline is None
            else [pipelines.require_pipeline(connection, pipeline)]
        )
        installed = server.pgvector(connection)
        states = []
        for each in chosen:
            oid = find_relation(connection, each.target_schema, each.target_table)
            if oid is None:
                states.append(_without_target(each, installed))
                continue
            rows = index_status.target_rows(connection, oid)
            vector = index_status.vector_indexes(connection, oid)
            general = judge_indexes(each, target_table.indexes(connection, oid), rows.rows, database.vector_schema)
            recall, trend = recall_trend.read(connection, each)
            built = of_last_build(connection, each)
            others = recall_trend.scans_of_others(connection, each, vector, rows.counted_since)
            new = new_indexes(connection, each)
            findings = [*general, *judge(each, others, rows, installed, new=new), *built, *trend]
            states.append(replace(_state(each, vector, rows, installed, findings), recall=recall))
    return sorted(states, key=lambda state: _WORST_FIRST.index(state.level))


def judge(
    pipeline: Pipeline,
    indexes: Sequence[VectorIndex],
    rows: TargetRows,
    installed: Extension | None,
    *,
    new: Collection[str] = (),
) -> Iterator[Finding]:
    """Say what is wrong besides invalid, missing and unsuitable indexes, which `doctor` reports too.

    new: the names of indexes that are too new to be judged by their use.
    """
    yield from _of_bugs(indexes, installed)
    yield from _duplicates(indexes)
    yield from differing(pipeline, indexes)
    served = any(serves(pipeline, index) for index in indexes)
    for index in indexes:
        if index.valid:
            yield from _of_one(pipeline, index, rows, served=served, new=index.name in new)
    if rows.dead_rows > SMALL_ROWS and rows.dead_rows > DEAD_SHARE * (rows.live_rows + rows.dead_rows):
        yield warning(
            f"{rows.dead_rows:,} dead rows beside {rows.live_rows:,} live ones: index scans visit both",
            f"VACUUM {quoted(pipeline.target_schema, pipeline.target_table)};",
        )


def _of_bugs(indexes: Sequence[VectorIndex], installed: Extension | None) -> Iterator[Finding]:
    if installed is None:
        return
    number = newest_of(installed.version, installed.files)
    bugs = known_bugs(number, bits=installed.bits, methods={index.method for index in indexes})
    if serious := [bug for bug in bugs if not bug.minor]:
        hnsw = [quoted(index.schema, index.name) for index in indexes if index.method == HNSW]
        yield warning(
            f"pgvector {number} has known bugs: " + "; ".join(bug.label for bug in serious),
            upgrade(serious, reindex=hnsw),
        )


def _duplicates(indexes: Sequence[VectorIndex]) -> Iterator[Finding]:
    kept: dict[tuple[object, ...], VectorIndex] = {}
    for index in sorted((index for index in indexes if index.valid), key=lambda index: (index.bytes, index.name)):
        same = (index.method, index.operator_class, index.indexed, index.condition)
        if same in kept:
            yield warning(
                f"{index.name} does the same as {kept[same].name}: each write updates both",
                f"DROP INDEX CONCURRENTLY {quoted(index.schema, index.name)};",
            )
        else:
            kept[same] = index


def _of_one(
    pipeline: Pipeline, index: VectorIndex, rows: TargetRows, *, served: bool, new: bool
) -> Iterator[Finding]:
    name = quoted(index.schema, index.name)
    if index.method not in (HNSW, IVFFLAT):
        yield ok(
            f"{index.name} uses {index.method}, which isn't part of pgvector",
            "its state and parameters aren't judged here: see the documentation of the extension that provides it",
        )
    elif index.storage is None or (index.partial and index.over_expression):
        yield ok(
            f"{index.name} is over {_what(index)}: `search` doesn't use it",
            "queries of the application use it for exactly this expression",
        )
    elif served and not serves(pipeline, index):
        yield warning(
            f"{index.name} uses {index.operator_class}: searches by {pipeline.options.metric.value} never use it",
            f"DROP INDEX CONCURRENTLY {name}; -- unless queries of the application use it",
        )
    if index.scans == 0 and rows.rows > SMALL_ROWS and not index.building and not new:
        since = "it was created" if rows.counted_since is None else f"{rows.counted_since:%Y-%m-%d}"
        yield warning(
            f"{index.name} hasn't been scanned since {since}",
            f"if no standby uses it either: DROP INDEX CONCURRENTLY {name};",
        )
    ratio = _hit_ratio(index)
    if ratio is not None and ratio < HIT_RATIO and (index.reads or 0) > SMALL_ROWS:
        yield warning(
            f"only {ratio:.0%} of the pages of {index.name} were found in the buffer cache",
            "raise shared_buffers, store halfvec, or load the index after a restart with pg_prewarm",
        )


def _what(index: VectorIndex) -> str:
    return index.indexed if index.condition is None else f"{index.indexed} WHERE {index.condition}"


def _hit_ratio(index: VectorIndex) -> float | None:
    if index.hits is None or index.reads is None or not index.hits + index.reads:
        return None
    return index.hits / (index.hits + index.reads)


def _state(
    pipeline: Pipeline,
    indexes: Sequence[VectorIndex],
    rows: TargetRows,
    installed: Extension | None,
    findings: Sequence[Finding],
) -> TargetIndexes:
    return TargetIndexes(
        pipeline=pipeline.name,
        target=f"{pipeline.target_schema}.{pipeline.target_table}",
        metric=pipeline.options.metric.value,
        rows=rows.rows,
        dead_rows=rows.dead_rows,
        counted_since=rows.counted_since,
        pgvector=None if installed is None else newest_of(installed.version, installed.files),
        findings=tuple(sorted(findings, key=lambda finding: _WORST_FIRST.index(finding.level))),
        indexes=tuple(_index(index, rows) for index in indexes),
    )


def _without_target(pipeline: Pipeline, installed: Extension | None) -> TargetIndexes:
    missing = Finding(Level.ERROR, "the target doesn't exist", "pgvector-sync doctor")
    return _state(pipeline, (), TargetRows(0, 0, 0, None), installed, [missing])


def _index(index: VectorIndex, rows: TargetRows) -> IndexState:
    counted = index.condition is None and rows.rows > 0
    return IndexState(
        schema=index.schema,
        name=index.name,
        method=index.method,
        operator_class=index.operator_class,
        indexed=index.indexed,
        condition=index.condition,
        parameters=index.parameters,
        valid=index.valid,
        building=index.building,
        bytes=index.bytes,
        bytes_per_row=round(index.bytes / rows.rows, 1) if counted else None,
        scans=index.scans,
        cache_hit_ratio=_hit_ratio(index),
        built_at=index.built_at,
    )
