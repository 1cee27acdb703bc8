"""Rules and dashboard name only metrics and labels that `serve` exposes."""

from __future__ import annotations

import pytest

from deploy.rules import grouped_by, metrics_in, rules
from deploy.test_dashboard import QUERIES
from pgvector_sync.observe.metrics.catalogue import METRICS, Kind
from pgvector_sync.store.totals import CLAIM_BOUNDS_SECONDS, WAIT_BOUNDS_SECONDS

OF_PROMETHEUS = {"job", "instance", "database"}
"""Labels that the scrape adds (deploy/prometheus/scrape.yml)."""
EXPOSED = {
    metric.name + suffix: set(metric.labels) | OF_PROMETHEUS | ({"le"} if suffix == "_bucket" else set())
    for metric in METRICS
    for suffix in (("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",))
}
EXPRESSIONS = [rule["expr"] for rule in rules()] + QUERIES


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_metric_and_label_is_exposed(expression):
    named = list(metrics_in(expression))
    for metric, labels in named:
        assert metric in EXPOSED, metric
        assert labels <= EXPOSED[metric], metric
    if named:
        assert grouped_by(expression) <= set.union(*(EXPOSED[metric] for metric, _ in named)) | {"le"}


def test_every_metric_is_in_the_dashboard_or_the_rules():
    used = {metric for expression in EXPRESSIONS for metric, _ in metrics_in(expression)}
    families = {name.removesuffix("_bucket").removesuffix("_count") for name in used}
    assert families == {metric.name for metric in METRICS}


def test_the_objective_is_a_bound_of_the_histogram():
    assert 60 in WAIT_BOUNDS_SECONDS


def test_claims_as_long_as_the_last_bound_alert():
    """A longer percentile is never computed: it is reported as the last bound."""
    [alert] = [rule for rule in rules() if rule.get("alert") == "PgvectorSyncClaimTimeRising"]
    assert f">= {max(CLAIM_BOUNDS_SECONDS):g}" in alert["expr"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('max by (a) (rate(pgvector_sync_x_total{b!="c", d=~"e"}[5m]))', [("pgvector_sync_x_total", {"b", "d"})]),
        ("pipeline:pgvector_sync_late:count > 1", []),
        ("pgvector_sync_x / pgvector_sync_y{z='1'}", [("pgvector_sync_x", set()), ("pgvector_sync_y", {"z"})]),
    ],
)
def test_metrics_are_found_in_an_expression(expression, expected):
    assert list(metrics_in(expression)) == expected
