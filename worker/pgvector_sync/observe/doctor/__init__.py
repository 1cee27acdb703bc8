"""`doctor`: checks everything that a pipeline needs, and says what to do. It changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
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
    messages,
    pipeline,
    pooler,
    provider,
    server,
    tables,
    vacuum,
    workers,
)
from pgvector_sync.observe.doctor.check import Check, Finding, Level, guarded, ok
from pgvector_sync.runtime import Runtime
from pgvector_sync.runtime.bootstrap import open_runtime
from pgvector_sync.settings import Settings
from pgvector_sync.store import pipelines

__all__ = ["Check", "Level", "examine"]

OF_THE_SERVER = {
    "postgres": server.version,
    "encoding": server.encoding,
    "pgvector": server.pgvector,
    "clock": server.clock,
    "timeouts": server.timeouts,
    "pooler": pooler.between,
    "role": grants.role,
    "grants": grants.own,
}
"""Need a connection only."""
OF_THE_SCHEMA = {
    "excess_grants": grants.too_much,
    "outbox": backlog.outbox,
    "leases": backlog.leases,
    "vacuum": vacuum.hot_tables,
    "transactions": vacuum.held_back,
    "workers": workers.alive,
    "beat": workers.beat,
}
"""Need our tables as well."""
OF_A_PIPELINE = {
    "source": tables.source,
    "target": tables.target,
    "capture": capture.triggers,
    "state": pipeline.state,
    "dead_letters": pipeline.dead_letters,
    "drift": drift.last_seen,
    "index": index.on_target,
}


def examine(settings: Settings, *, offline: bool = False) -> list[Check]:
    """Every check that can be made. `offline`: no text is sent to a provider. Raises nothing."""
    found = guarded("database", partial(connection.reach, settings))
    if _sound(found):
        with open_runtime(settings) as runtime:
            found += _with_database(runtime, offline=offline)
    found += guarded("environment", environment.variables)
    found += guarded("redis", partial(messages.redis, settings))
    found += guarded("broker", partial(messages.broker, settings))
    found += guarded("relay", partial(workers.relay, settings))
    return found


def _with_database(runtime: Runtime, *, offline: bool) -> list[Check]:
    found: list[Check] = []
    for name, look in OF_THE_SERVER.items():
        found += guarded(name, partial(look, runtime))
    # whatever needs our tables would only say again what is wrong with them
    if not _sound([check for check in found if check.name == "grants"]):
        return found
    found += guarded("schema", partial(server.schema, runtime))
    if not _sound([check for check in found if check.name == "schema"]):
        return found
    for name, look in OF_THE_SCHEMA.items():
        found += guarded(name, partial(look, runtime))
    declared: list[Pipeline] = []
    found += guarded("pipelines", partial(_declared, runtime, declared))
    probe = provider.Probe(runtime, offline=offline)
    for one in declared:
        for name, of_pipeline in OF_A_PIPELINE.items():
            found += guarded(name, partial(of_pipeline, runtime, one), pipeline=one.name)
        found += guarded("provider", partial(probe, one), pipeline=one.name)
    return found


def _declared(runtime: Runtime, declared: list[Pipeline]) -> Iterator[Finding]:
    """Fills `declared`, which the checks of each pipeline go through."""
    with runtime.database.transaction(read_only=True) as begun:
        declared += pipelines.all_pipelines(begun)
    names = ", ".join(one.name for one in declared)
    yield ok(names or "none yet", None if declared else "write pgvector-sync.toml, then: pgvector-sync apply")


def _sound(checks: list[Check]) -> bool:
    return all(check.level is not Level.ERROR for check in checks)
