"""Series as `serve` exposes them, and the alerts that fire on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deploy.rules import Case, growth, level

STATES = ("active", "backfilling", "cooling_down", "misconfigured", "paused", "removing")
DAY = 24 * 60
LONG = 2 * DAY
Values = Sequence[float | None]


def name_of(metric: str, **labels: str) -> str:
    every = {"job": "pgvector-sync", "instance": "serve-1:8187"} | labels
    return metric + "{" + ",".join(f'{key}="{value}"' for key, value in every.items()) + "}"


def of_docs(metric: str, **labels: str) -> str:
    return name_of(f"pgvector_sync_{metric}", pipeline="docs", **labels)


def state(*phases: tuple[int, str]) -> dict[str, Values]:
    """The 0/1 series of all states: for so many minutes this state, then …"""
    return {
        of_docs("pipeline_state", state=each): level(*((minutes, int(now == each)) for minutes, now in phases))
        for each in STATES
    }


def latency(in_time: Values, all_: Values) -> dict[str, Values]:
    """The histogram from change to vector: what was stored within 60 s, and everything."""
    return {
        of_docs("change_to_vector_seconds_bucket", lane="live", le="60.0"): in_time,
        of_docs("change_to_vector_seconds_bucket", lane="live", le="+Inf"): all_,
        of_docs("change_to_vector_seconds_count", lane="live"): all_,
    }


def claims(fast: Values, slow: Values, all_: Values) -> dict[str, Values]:
    """The histogram of claims: those of at most 10 ms, those of at most 0.25 s, and all."""
    counts = {"0.01": fast, "0.1": fast, "0.25": slow, "1": slow, "+Inf": all_}
    return {of_docs("claim_seconds_bucket", le=bound): values for bound, values in counts.items()}


SLOTS = name_of("pgvector_sync_worker_slots")
RELAY = name_of("pgvector_sync_tick_age_seconds", component="relay")
BEAT = name_of("pgvector_sync_tick_age_seconds", component="beat")
LAG, BULK_LAG = of_docs("lag_seconds", lane="live"), of_docs("lag_seconds", lane="bulk")
WAITING = of_docs("waiting_rows", lane="live")
OK = of_docs("provider_calls_total", outcome="ok")
UNAVAILABLE = of_docs("provider_calls_total", outcome="unavailable")
REJECTED = of_docs("provider_calls_total", outcome="input_rejected")
DEAD = of_docs("dead_letters", error_class="input_rejected")
LOST = of_docs("leases_lost_total", lane="live")
DRIFT = of_docs("drift_rows", kind="missing")
TOKENS, TOKENS_LIMIT = of_docs("day_tokens"), of_docs("day_tokens_limit")
INDEX = of_docs("index_valid", index="docs_embedding_hnsw")
RECALL, RECALL_BY_DEFAULT, RECALL_AT_BUILD = (
    of_docs("recall", setting=setting) for setting in ("search", "default", "build")
)
UP, EXPORTED = name_of("up"), name_of("pgvector_sync_up")

HEALTHY: Mapping[str, Values] = {
    UP: level((LONG, 1)),
    EXPORTED: level((LONG, 1)),
    SLOTS: level((LONG, 4)),
    RELAY: level((LONG, 0.2)),
    BEAT: level((LONG, 9)),
    LAG: level((LONG, 0)),
    BULK_LAG: level((LONG, 0)),
    WAITING: level((LONG, 0)),
    of_docs("waiting_events"): level((LONG, 0)),
    of_docs("in_flight_rows", lane="live"): level((LONG, 0)),
    OK: growth((LONG, 10)),
    DRIFT: level((LONG, 0)),
    TOKENS: growth((LONG, 10)),
    TOKENS_LIMIT: level((LONG, 1_000_000)),
    INDEX: level((LONG, 1)),
    RECALL: level((LONG, 0.97)),
    RECALL_BY_DEFAULT: level((LONG, 0.96)),
    RECALL_AT_BUILD: level((LONG, 0.97)),
    of_docs("recall_target"): level((LONG, 0.95)),
    LOST: growth((LONG, 0)),
    **state((LONG, "active")),
    **latency(growth((LONG, 10)), growth((LONG, 10))),
    **claims(*[growth((LONG, 10))] * 3),
}
"""A pipeline with ten changes per minute, and everything in order."""


def when(sentence: str, changed: Mapping[str, Values | None], *, after: int, fires: str = "") -> Case:
    """A case that differs from HEALTHY in these series (None: absent). `fires` lists alerts, separated by commas."""
    series = {name: values for name, values in {**HEALTHY, **changed}.items() if values is not None}
    return Case(sentence, after, series, frozenset(alert.strip() for alert in fires.split(",") if alert.strip()))


def stopped(minutes: int) -> dict[str, Values]:
    """Nothing is stored any more from this minute on, and the changes wait."""
    return {
        **latency(growth((minutes, 10), (LONG, 0)), growth((minutes, 10), (LONG, 0))),
        LAG: level((minutes, 0)) + growth((LONG, 60)),
        WAITING: level((minutes, 0)) + growth((LONG, 10)),
    }


def two_replicas(changed: Mapping[str, Values]) -> dict[str, Values]:
    """The same series, reported by a second process of `serve` as well."""
    both = {**HEALTHY, **changed}
    return both | {name.replace("serve-1", "serve-2"): values for name, values in both.items()}


FAST, SLOW = "PgvectorSyncFreshnessBurnsFast critical", "PgvectorSyncFreshnessBurnsSlowly warning"
OLD = "PgvectorSyncOldestChange warning"
NOT_ACTIVE = "PgvectorSyncPipelineNotActive"
CASES = [
    when("everything is in order for half an hour", {}, after=30),
    when("everything is in order for a day", {}, after=DAY),
    # the objective
    when(
        "a fifth of the changes is late",
        latency(growth((LONG, 8)), growth((LONG, 10))),
        after=40,
        fires=f"{FAST}, {SLOW}",
    ),
    when("5 % are late for an hour", latency(growth((300, 10), (LONG, 9.5)), growth((LONG, 10))), after=360),
    when("5 % are late for a day", latency(growth((LONG, 9.5)), growth((LONG, 10))), after=DAY, fires=SLOW),
    when("1 % is late for a day", latency(growth((LONG, 9.9)), growth((LONG, 10))), after=DAY),
    when("2 of 3 changes are late", latency(level((30, 0), (LONG, 1)), level((30, 0), (LONG, 3))), after=40),
    when("nothing is stored any more", stopped(60), after=74, fires=f"{FAST}, {OLD}"),
    when("nothing was stored for 8 minutes", stopped(60), after=67),
    when(
        "nothing was ever stored",
        {**stopped(0), **dict.fromkeys(latency([], []))},
        after=20,
        fires=f"{FAST}, {SLOW}, {OLD}",
    ),
    when(
        "what was late is stored: the alert ends within minutes",
        latency(growth((60, 10), (20, 0), (LONG, 10)), growth((60, 10), (20, 0), (1, 200), (LONG, 10))),
        after=90,
    ),
    when(
        "it was paused for hours, and what waited is stored",
        {
            **state((60, "active"), (480, "paused"), (LONG, "active")),
            **latency(growth((60, 10), (480, 0), (LONG, 10)), growth((60, 10), (480, 0), (1, 4800), (LONG, 10))),
        },
        after=545,
    ),
    when(
        "two processes report the same: it counts once",
        two_replicas({TOKENS: level((LONG, 600_000)), **latency(growth((LONG, 9.95)), growth((LONG, 10)))}),
        after=40,
    ),
    # the oldest change
    when("a change waits for 4 minutes", {LAG: level((LONG, 240))}, after=30),
    when(
        "one change waits for 6 minutes", {LAG: level((LONG, 360)), WAITING: level((LONG, 1))}, after=30, fires=OLD
    ),
    when("bulk work waits for hours", {BULK_LAG: level((LONG, 20_000))}, after=30),
    # the state
    when(
        "it is misconfigured",
        {**state((30, "active"), (LONG, "misconfigured"))},
        after=45,
        fires=f"{NOT_ACTIVE} critical misconfigured",
    ),
    when("it was misconfigured for 5 minutes", {**state((30, "active"), (LONG, "misconfigured"))}, after=35),
    when(
        "the provider is down, and few changes wait",
        {**state((30, "active"), (LONG, "cooling_down"))},
        after=45,
        fires=f"{NOT_ACTIVE} warning cooling_down",
    ),
    when("it is backfilling", state((LONG, "backfilling")), after=30),
    when(
        "a removal was interrupted",
        {**state((30, "active"), (LONG, "removing"))},
        after=45,
        fires=f"{NOT_ACTIVE} warning removing",
    ),
    when(
        "it is paused for a night, and changes wait",
        {**state((60, "active"), (LONG, "paused")), **stopped(60)},
        after=300,
        fires=f"{NOT_ACTIVE} info paused",
    ),
    # dead letters
    when(
        "the first row is parked",
        {DEAD: [None] * 20 + level((LONG, 1))},
        after=30,
        fires="PgvectorSyncDeadLettersRising warning",
    ),
    when(
        "another row is parked",
        {DEAD: level((20, 3), (LONG, 4))},
        after=30,
        fires="PgvectorSyncDeadLettersRising warning",
    ),
    when("there are three dead letters as before", {DEAD: level((LONG, 3))}, after=40),
    when("one of three was requeued", {DEAD: level((20, 3), (LONG, 2))}, after=30),
    when("a row was parked two hours ago", {DEAD: level((60, 3), (LONG, 4))}, after=150),
    # ticks
    when(
        "the relay is silent",
        {RELAY: level((30, 0.2)) + growth((LONG, 60))},
        after=40,
        fires="PgvectorSyncNoTick critical relay",
    ),
    when(
        "beat is silent",
        {BEAT: level((30, 9)) + growth((LONG, 60))},
        after=40,
        fires="PgvectorSyncNoTick warning beat",
    ),
    when("beat restarts within two minutes", {BEAT: level((30, 9), (1, 69), (LONG, 9))}, after=33),
    when("there never was a beat, since `sync` runs", {BEAT: None}, after=30),
    # workers
    when(
        "no worker is alive, and a change waits",
        {
            SLOTS: level((30, 4), (LONG, 0)),
            LAG: level((30, 0)) + growth((LONG, 60)),
            RELAY: level((30, 0)) + growth((LONG, 60)),
        },
        after=34,
        fires="PgvectorSyncNoWorker critical",
    ),
    when(
        "no worker is alive, and nothing waits",
        {SLOTS: level((10, 4), (LONG, 0))},
        after=30,
        fires="PgvectorSyncNoWorker warning",
    ),
    when(
        "no worker is alive, and only a paused pipeline waits",
        {SLOTS: level((LONG, 0)), LAG: growth((LONG, 60)), **state((LONG, "paused"))},
        after=30,
        fires=f"PgvectorSyncNoWorker warning, {NOT_ACTIVE} info paused",
    ),
    when("the worker was replaced within a minute", {SLOTS: level((30, 4), (1, 0), (LONG, 4))}, after=31),
    # the provider
    when(
        "every tenth call fails",
        {OK: growth((LONG, 9)), UNAVAILABLE: growth((LONG, 1))},
        after=30,
        fires="PgvectorSyncProviderErrors warning",
    ),
    when("every fiftieth call fails", {OK: growth((LONG, 98)), UNAVAILABLE: growth((LONG, 2))}, after=30),
    when(
        "one of two calls fails", {OK: level((50, 0), (LONG, 1)), UNAVAILABLE: level((50, 0), (LONG, 1))}, after=55
    ),
    when(
        "one row is looked for by rejected calls", {OK: growth((LONG, 9)), REJECTED: growth((LONG, 9))}, after=30
    ),
    # leases
    when(
        "leases are lost again and again",
        {LOST: growth((LONG, 1))},
        after=40,
        fires="PgvectorSyncLeasesExpiring warning",
    ),
    when("a worker was killed", {LOST: level((30, 0), (LONG, 8))}, after=40),
    # drift
    when(
        "reconciliation found drift",
        {DRIFT: level((20, 0), (LONG, 12))},
        after=30,
        fires="PgvectorSyncDriftFound warning",
    ),
    when("the next reconciliation found none", {DRIFT: level((20, 12), (LONG, 0))}, after=30),
    # budget
    when(
        "the tokens of the day are spent, and bulk work waits",
        {TOKENS: level((LONG, 1_000_123)), BULK_LAG: growth((LONG, 60))},
        after=300,
        fires="PgvectorSyncDayTokensSpent info",
    ),
    when("no limit is set", {TOKENS: level((LONG, 2_000_000)), TOKENS_LIMIT: None}, after=30),
    # index
    when("an index is invalid", {INDEX: level((LONG, 0))}, after=20, fires="PgvectorSyncIndexInvalid warning"),
    when("an index is being built, which has no sample", {INDEX: None}, after=89),
    # recall
    when(
        "searches miss the target",
        {RECALL: level((LONG, 0.93))},
        after=30,
        fires="PgvectorSyncRecallBelowTarget warning",
    ),
    when(
        "the index has rotted, and searches look at more of it",
        {RECALL_BY_DEFAULT: level((LONG, 0.93))},
        after=30,
        fires="PgvectorSyncRecallBelowTarget warning",
    ),
    when(
        "the index needs more than the default setting since its build",
        {RECALL_BY_DEFAULT: level((LONG, 0.9)), RECALL_AT_BUILD: level((LONG, 0.91))},
        after=30,
    ),
    when("it was built again and measured", {RECALL: level((20, 0.93), (LONG, 0.98))}, after=40),
    # claims
    when(
        "claims take a fifth of a second instead of milliseconds",
        claims(growth((DAY, 10), (LONG, 9)), *[growth((LONG, 10))] * 2),
        after=DAY + 60,
        fires="PgvectorSyncClaimTimeRising warning",
    ),
    when("claims are as slow as ever", claims(growth((LONG, 9.4)), *[growth((LONG, 10))] * 2), after=DAY),
    when(
        "claims take longer than a second",
        claims(*[growth((LONG, 1))] * 2, growth((LONG, 10))),
        after=50,
        fires="PgvectorSyncClaimTimeRising warning",
    ),
    # the exporter
    when(
        "`serve` is gone: nothing else is known",
        {**dict.fromkeys(HEALTHY), UP: level((10, 1), (LONG, 0)), EXPORTED: level((10, 1))},
        after=30,
        fires="PgvectorSyncExporterDown critical",
    ),
    when(
        "nothing is scraped at all",
        {**dict.fromkeys(HEALTHY), name_of("up", job="node"): level((LONG, 1))},
        after=30,
        fires="PgvectorSyncExporterDown critical",
    ),
    when(
        "one of two processes is down",
        {UP.replace("serve-1", "serve-2"): level((LONG, 0))},
        after=30,
    ),
    when(
        "`serve` can't read Postgres",
        {**dict.fromkeys(HEALTHY), UP: level((LONG, 1)), EXPORTED: level((LONG, 0))},
        after=30,
        fires="PgvectorSyncDatabaseUnreachable critical",
    ),
]
