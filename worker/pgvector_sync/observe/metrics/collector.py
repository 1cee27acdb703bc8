"""Reads every metric from the database, and writes them in Prometheus' text format.

All state is in Postgres. So one process can serve the metrics of a deployment, and counters survive its workers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import psycopg
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from pgvector_sync.database import Connection, Database, limit_statements
from pgvector_sync.model import State
from pgvector_sync.observe.metrics.catalogue import BY_NAME, METRICS, Kind
from pgvector_sync.store import metrics, migrations, status, totals, workers
from pgvector_sync.store.totals import Histogram

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

__all__ = ["CONTENT_TYPE", "exposition"]

STATEMENT_LIMIT = timedelta(seconds=5)
"""Time limit of each statement. Prometheus gives up after ten seconds by default."""
_FAMILIES = {
    Kind.GAUGE: GaugeMetricFamily,
    Kind.COUNTER: CounterMetricFamily,
    Kind.HISTOGRAM: HistogramMetricFamily,
}


@dataclass
class _Families:
    """The samples so far, by metric."""

    families: dict[str, Family] = field(default_factory=dict)

    def add(self, name: str, labels: Mapping[str, Any], value: float) -> None:
        """Add a sample of a gauge or a counter."""
        self._family(name).add_metric(self._values(name, labels), float(value))

    def add_histogram(self, name: str, labels: Mapping[str, Any], found: Histogram) -> None:
        bounded = [(f"{bound:g}", count) for bound, count in zip(found.bounds, found.buckets, strict=True)]
        self._family(name).add_metric(
            self._values(name, labels), [*bounded, ("+Inf", found.count)], sum_value=found.seconds
        )

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Add a row whose columns are labels, or metrics with these labels. NULL is no sample."""
        for column, value in row.items():
            if column in BY_NAME and value is not None:
                self.add(column, row, value)

    def collect(self) -> Iterator[Family]:
        """Yield the metrics in the order of the catalogue."""
        return (self.families[metric.short_name] for metric in METRICS if metric.short_name in self.families)

    def _values(self, name: str, labels: Mapping[str, Any]) -> list[str]:
        return [str(labels[label]) for label in BY_NAME[name].labels]

    def _family(self, name: str) -> Any:
        if name not in self.families:
            metric = BY_NAME[name]
            self.families[name] = _FAMILIES[metric.kind](metric.name, metric.help, labels=metric.labels)
        return self.families[name]


def exposition(database: Database) -> bytes:
    """Return all metrics as text of `CONTENT_TYPE`.

    Raises nothing if the database can't be read: `pgvector_sync_up` is then 0, and its metrics are missing.
    """
    started = time.monotonic()
    families = _Families()
    try:
        with database.transaction(read_only=True) as connection:
            limit_statements(connection, STATEMENT_LIMIT)
            _read(connection, families)
        up = True
    except psycopg.Error:
        families, up = _Families(), False
    families.add("up", {}, up)
    families.add("build_info", {"version": version("pgvector-sync")}, 1)
    families.add("schema_version_expected", {}, migrations.migrations()[-1].number)
    families.add("scrape_seconds", {}, time.monotonic() - started)
    return generate_latest(families)


def _read(connection: Connection, families: _Families) -> None:
    for row in status.pipelines(connection, limit=status.COUNT_LIMIT_ROWS):
        counts = status.counts(row)
        pipeline = {"pipeline": counts.name}
        state = status.state_of(row)
        for each in State:
            families.add("pipeline_state", pipeline | {"state": each}, each is state)
        families.add("waiting_events", pipeline, row["events"])
        families.add("source_rows", pipeline, counts.rows)
        families.add("fresh_rows", pipeline, counts.fresh)
        families.add("rows_to_backfill", pipeline, counts.to_backfill)
    running = workers.alive(connection)
    families.add("workers", {}, running.alive)
    families.add("worker_slots", {}, running.slots)
    for row in metrics.samples(connection, limit=status.COUNT_LIMIT_ROWS):
        families.add_row(row)
    _read_batches(connection, families)
    _read_calls(connection, families)


def _read_batches(connection: Connection, families: _Families) -> None:
    claims: dict[str, Histogram] = {}
    for found in totals.batches(connection):
        labels = {"pipeline": found.pipeline, "lane": found.lane}
        families.add("leases_lost_total", labels, found.leases_lost)
        if found.lane not in totals.LANES:
            continue
        families.add("batches_total", labels, found.batches)
        for outcome, rows in found.rows.items():
            families.add("rows_total", labels | {"outcome": outcome}, rows)
        families.add_histogram("change_to_vector_seconds", labels, found.waits)
        known = claims.get(found.pipeline)
        claims[found.pipeline] = found.claims if known is None else known + found.claims
    for pipeline, histogram in claims.items():
        families.add_histogram("claim_seconds", {"pipeline": pipeline}, histogram)


def _read_calls(connection: Connection, families: _Families) -> None:
    calls: dict[str, Histogram] = {}
    for found in totals.calls(connection):
        labels = {"pipeline": found.pipeline, "outcome": found.outcome}
        families.add("provider_calls_total", labels, found.calls.count)
        known = calls.get(found.pipeline)
        calls[found.pipeline] = found.calls if known is None else known + found.calls
    for pipeline, histogram in calls.items():
        families.add_histogram("provider_call_seconds", {"pipeline": pipeline}, histogram)
