"""`doctor`: checks everything that a pipeline needs and says what to do. It changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from pgvector_sync.model import Pipeline
from pgvector_sync.observe.doctor import (
    backlog,
    capture,
    connection,
    drift,
    environment,
    grants,
    index,
    inputs,
    limits,
    messages,
    pipeline,
    pooler,
    provider,
    server,
    tables,
    vacuum,
    workers,
)
from pgvector_sync.observe.doctor.check import guarded
from pgvector_sync.observe.doctor.verdicts import Verdicts
from pgvector_sync.observe.finding import Check, Finding, ok
from pgvector_sync.observe.level import Level
from pgvector_sync.runtime import Runtime
from pgvector_sync.runtime.bootstrap import open_runtime
from pgvector_sync.settings import Settings
from pgvector_sync.store import pipelines

__all__ = ["Check", "examine"]

SERVER_CHECKS = {
    "postgres": server.version,
    "encoding": server.encoding,
    "pgvector": server.pgvector,
    "clock": server.clock,
    "timeouts": server.timeouts,
    "pooler": pooler.mode,
    "role": grants.role,
    "grants": grants.own,
}
"""Checks that only need a connection."""
SCHEMA_CHECKS = {
    "excess_grants": grants.excess,
    "outbox": backlog.outbox,
    "leases": backlog.leases,
    "vacuum": vacuum.hot_tables,
    "transactions": vacuum.held_back,
    "workers": workers.alive,
    "beat": workers.beat,
}
"""Checks that also need our tables."""


def _pipeline_checks(runtime: Runtime, *, offline: bool) -> dict[str, Callable[[Pipeline], Iterator[Finding]]]:
    """The checks of one pipeline. What they share is looked up once per run of doctor."""
    verdicts = Verdicts(runtime.database)
    return {
        "source": partial(tables.source, runtime, verdicts),
        "target": partial(tables.target, runtime),
        "capture": partial(capture.triggers, verdicts),
        "state": partial(pipeline.state, runtime),
        "dead_letters": partial(pipeline.dead_letters, runtime),
        "truncated": partial(pipeline.truncated, runtime),
        "drift": partial(drift.last_reconciliation, runtime),
        "index": partial(index.on_target, runtime),
        "inputs": inputs.documents_and_queries,
        "provider": provider.Probe(runtime, offline=offline),
        "limits": partial(limits.of_requests, runtime),
    }


def examine(settings: Settings, *, offline: bool = False) -> list[Check]:
    """Run every check that is possible. Raises nothing.

    offline: send no text to a provider.
    """
    checks = guarded("database", partial(connection.reach, settings))
    if _sound(checks):
        with open_runtime(settings) as runtime:
            checks += _with_database(runtime, offline=offline)
    checks += guarded("environment", environment.variables)
    checks += guarded("redis", partial(messages.redis, settings))
    checks += guarded("broker", partial(messages.broker, settings))
    checks += guarded("relay", partial(workers.relay, settings))
    return checks


def _with_database(runtime: Runtime, *, offline: bool) -> list[Check]:
    checks: list[Check] = []
    for name, look in SERVER_CHECKS.items():
        checks += guarded(name, partial(look, runtime))
    # checks that need our tables would only repeat what is wrong with them
    if not _sound([check for check in checks if check.name == "grants"]):
        return checks
    checks += guarded("schema", partial(server.schema, runtime))
    if not _sound([check for check in checks if check.name == "schema"]):
        return checks
    for name, look in SCHEMA_CHECKS.items():
        checks += guarded(name, partial(look, runtime))
    declared: list[Pipeline] = []
    checks += guarded("pipelines", partial(_declared, runtime, declared))
    of_pipeline = _pipeline_checks(runtime, offline=offline)
    for each in declared:
        for name, examine_pipeline in of_pipeline.items():
            checks += guarded(name, partial(examine_pipeline, each), pipeline=each.name)
    return checks


def _declared(runtime: Runtime, declared: list[Pipeline]) -> Iterator[Finding]:
    """Append the known pipelines to `declared`, and report their names."""
    with runtime.database.transaction(read_only=True) as opened:
        declared += pipelines.all_pipelines(opened)
    names = ", ".join(each.name for each in declared)
    yield ok(names or "none yet", None if declared else "pgvector-sync init, then: pgvector-sync apply")


def _sound(checks: list[Check]) -> bool:
    return all(check.level is not Level.ERROR for check in checks)
