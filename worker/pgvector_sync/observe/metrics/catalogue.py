"""Every metric: its name, kind, help text and labels.

Names and labels are fixed, because dashboards and alerts depend on them: add to them, never rename one. A label
has few values: pipelines, lanes, states and classes of errors, never keys or messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PREFIX = "pgvector_sync_"


class Kind(StrEnum):
    """The kinds of Prometheus."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, without the prefix."""

    short_name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name in /metrics. The series of a histogram have suffixes: `_bucket`, `_sum` and `_count`."""
        return PREFIX + self.short_name


_PIPELINE = ("pipeline",)
_LANE = (*_PIPELINE, "lane")
_STATE = (*_PIPELINE, "state")
_KIND = (*_PIPELINE, "kind")

METRICS = (
    Metric("up", Kind.GAUGE, "Whether this scrape has read the database: 1 or 0."),
    Metric("build_info", Kind.GAUGE, "Always 1; the label has the version of the program.", ("version",)),
    Metric("scrape_seconds", Kind.GAUGE, "How long this scrape took to read the database."),
    Metric("schema_version", Kind.GAUGE, "The number of the last applied migration."),
    Metric("schema_version_expected", Kind.GAUGE, "The number of the last migration that this program has."),
    Metric("workers", Kind.GAUGE, "Live workers and `sync` processes."),
    Metric("worker_slots", Kind.GAUGE, "Batches that live workers can process at once."),
    Metric(
        "tick_age_seconds",
        Kind.GAUGE,
        "Time since the relay last looked for work, noted every 5 seconds, and since beat last ticked.",
        ("component",),
    ),
    Metric(
        "oldest_transaction_seconds",
        Kind.GAUGE,
        "Age of another session's oldest transaction that holds back vacuum; missing without pg_read_all_stats.",
    ),
    Metric(
        "oldest_xmin_transactions",
        Kind.GAUGE,
        "Transactions since the oldest snapshot of a session, slot or prepared transaction.",
    ),
    Metric("dead_tuples", Kind.GAUGE, "Dead rows of a table of pgvector-sync, as Postgres estimates.", ("table",)),
    Metric("live_tuples", Kind.GAUGE, "Live rows of a table of pgvector-sync, as Postgres estimates.", ("table",)),
    Metric(
        "pipeline_state",
        Kind.GAUGE,
        "1 for the state that the pipeline is in, 0 for others.",
        _STATE,
    ),
    Metric("waiting_events", Kind.GAUGE, "Changes in the outbox, not drained yet, up to 100,000.", _PIPELINE),
    Metric("waiting_rows", Kind.GAUGE, "Rows that are due or backing off, up to 100,000.", _LANE),
    Metric("in_flight_rows", Kind.GAUGE, "Rows that a worker holds.", _LANE),
    Metric("lag_seconds", Kind.GAUGE, "Age of the oldest change that isn't stored yet, or 0.", _LANE),
    Metric("source_rows", Kind.GAUGE, "Rows of the source, as Postgres estimates.", _PIPELINE),
    Metric("fresh_rows", Kind.GAUGE, "Rows whose vector is current, estimated as in `status`.", _PIPELINE),
    Metric("rows_to_backfill", Kind.GAUGE, "Rows that a running backfill hasn't reached yet.", _PIPELINE),
    Metric("dead_letters", Kind.GAUGE, "Dead letters by the class of their failure.", ("pipeline", "error_class")),
    Metric("drift_rows", Kind.GAUGE, "Drifted rows that the last reconciliation has found.", _KIND),
    Metric("last_reconciliation_timestamp_seconds", Kind.GAUGE, "When the last one ended.", _PIPELINE),
    Metric("day_tokens", Kind.GAUGE, "Tokens sent since midnight UTC.", _PIPELINE),
    Metric("day_tokens_limit", Kind.GAUGE, "The pipeline's `tokens_per_day`, if it has one.", _PIPELINE),
    Metric("running_runs", Kind.GAUGE, "Running backfills, re-embeds and reconciliations.", _KIND),
    Metric(
        "run_progress_ratio",
        Kind.GAUGE,
        "Share of its rows that the slowest run has done: seen, and not waiting any more.",
        _KIND,
    ),
    Metric("run_left_seconds", Kind.GAUGE, "Time until the runs end, at the pace so far.", _KIND),
    Metric("index_valid", Kind.GAUGE, "Whether an index of the target is valid: 1 or 0.", ("pipeline", "index")),
    Metric(
        "recall",
        Kind.GAUGE,
        "Share of true neighbours that the index finds: by `search`, by the default setting, after the build.",
        ("pipeline", "setting"),
    ),
    Metric("recall_target", Kind.GAUGE, "The pipeline's `index.recall`, when it was measured.", _PIPELINE),
    Metric("last_recall_timestamp_seconds", Kind.GAUGE, "When the recall was last measured.", _PIPELINE),
    Metric("index_churn_ratio", Kind.GAUGE, "Vectors written since the index was built, per row.", _PIPELINE),
    Metric("batches_total", Kind.COUNTER, "Batches that have ended.", _LANE),
    Metric("rows_total", Kind.COUNTER, "Rows of batches by what was done with them.", (*_LANE, "outcome")),
    Metric(
        "change_to_vector_seconds",
        Kind.HISTOGRAM,
        "Time from a change's commit, or from the request of a run, until its row was acknowledged.",
        _LANE,
    ),
    Metric("claim_seconds", Kind.HISTOGRAM, "Time from the start of a claim to its rows.", _PIPELINE),
    Metric(
        "provider_calls_total",
        Kind.COUNTER,
        "Calls of the provider, retries included: `ok`, or the class of the failure.",
        ("pipeline", "outcome"),
    ),
    Metric("provider_call_seconds", Kind.HISTOGRAM, "Time until a call's answer or failure.", _PIPELINE),
    Metric("inputs_total", Kind.COUNTER, "Texts that were embedded.", _PIPELINE),
    Metric("tokens_total", Kind.COUNTER, "Tokens that were sent.", _PIPELINE),
    Metric("cost_usd_total", Kind.COUNTER, "US dollars, where the price is known.", _PIPELINE),
    Metric("truncated_inputs_total", Kind.COUNTER, "Texts that the model has cut.", _PIPELINE),
    Metric(
        "saved_inputs_total",
        Kind.COUNTER,
        "Texts that needed no call: unchanged, equal to another of the batch, or stored for another row.",
        ("pipeline", "reason"),
    ),
    Metric("leases_lost_total", Kind.COUNTER, "Leases of workers that have died or hung.", _LANE),
)
BY_NAME = {metric.short_name: metric for metric in METRICS}


def table() -> str:
    """Return all metrics as a Markdown table, for docs/metrics.md."""
    lines = ["| metric | kind | labels | what it is |", "|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(lines)
