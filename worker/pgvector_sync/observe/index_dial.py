"""Finds the smallest `ef_search` or `probes` that reaches a recall, by measuring an index that exists."""

from __future__ import annotations

from datetime import timedelta

from pgvector_sync.database import Database
from pgvector_sync.errors import Refused
from pgvector_sync.index.facts import Facts, Measured
from pgvector_sync.index.recall import RecallReport, RecallRequest, SettingResult, measure
from pgvector_sync.index.recall.measure import OnProgress
from pgvector_sync.index.recall.statistics import least_queries
from pgvector_sync.model import Method
from pgvector_sync.settings import Settings

LONGEST = timedelta(minutes=2)
"""How long the exact searches of a measurement may take. If they would take longer, nothing is measured."""
QUERIES = 200
EF_SEARCH = (40, 80, 120, 200, 400, 800)
"""From pgvector's default on."""


def measured(
    database: Database, settings: Settings, facts: Facts, recall: float, progress: OnProgress
) -> Measured | None:
    """Measure an index with stored vectors as queries; None if there is none, or it would take too long."""
    if not facts.existing or facts.exact is None or not 0 < recall < 1:
        return None
    queries = min(facts.vectors, max(QUERIES, least_queries(recall)))
    if queries * facts.exact > LONGEST:
        return None
    hnsw = all(each.method is Method.HNSW for each in facts.existing)
    request = RecallRequest(
        queries=queries, sweep=True, values=EF_SEARCH if hnsw else None, iterative=["off"], target=recall
    )
    try:
        report = measure(database, settings, facts.pipeline, request, progress=progress)
    except Refused:  # `index recall` says why
        return None
    return _of(report, recall)


def _of(report: RecallReport, recall: float) -> Measured:
    """Take the smallest setting whose interval is above the recall, or whose mean is clearly above it.

    Near 1, an interval of a few hundred queries always reaches below.
    """
    best = report.smallest or _first(report, (1 + recall) / 2) or _first(report, recall)
    shown = best or max(report.settings, key=lambda result: result.recall_mean)
    return Measured(
        index=report.index.name,
        value=None if best is None else best.value,
        recall=shown.recall_mean,
        queries=shown.queries,
        p95=shown.p95,
    )


def _first(report: RecallReport, recall: float) -> SettingResult | None:
    enough = [result for result in report.settings if result.recall_mean >= recall]
    return min(enough, key=lambda result: result.value, default=None)
