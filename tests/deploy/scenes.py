"""The situations of docs/runbook.md, staged with real servers, a real worker and a real endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg
import pytest

from deploy.scene import Scene
from pgvector_sync.engine.jobs import measure_recall
from pgvector_sync.observe.doctor import vacuum
from pgvector_sync.telemetry.events.search import RecallMeasured
from support.cluster import kill_children
from support.events import collected
from support.jobs import run_due
from support.serving import TOKEN, serving
from support.synced import session
from support.waiting import eventually

# -- freshness -----------------------------------------------------------------------------------------------


@contextmanager
def too_slow(scene: Scene) -> Iterator[None]:
    """More changes than one worker with one slot can embed at a slow provider."""
    scene.synced.endpoint.latency = 0.5
    scene.worker(concurrency=1, PGVECTOR_SYNC_LIVE_BATCH_SIZE="5")
    scene.write(400)
    eventually(lambda: scene.value("SELECT count(*) FROM articles_embedding") > 0, 30)
    scene.ages()
    yield


@contextmanager
def locked_vectors(scene: Scene) -> Iterator[None]:
    """The application keeps the vectors of a row locked, so they can't be replaced."""
    scene.worker()
    scene.write(3)
    scene.settled()
    holder = session(scene.synced.database, application_name="nightly report")
    holder.execute("SELECT FROM articles_embedding WHERE id = 2 FOR UPDATE")
    scene.synced.run("UPDATE articles SET body = 'changed' WHERE id = 2")
    eventually(lambda: scene.value("SELECT coalesce(sum(attempts), 0) FROM pgvector_sync.work") > 0, 30)
    scene.ages()
    scene.env["PID"] = str(holder.info.backend_pid)
    scene.solved = scene.settled
    yield
    holder.close()


# -- states --------------------------------------------------------------------------------------------------


@contextmanager
def key_rejected(scene: Scene) -> Iterator[None]:
    scene.worker()
    scene.synced.endpoint.api_key = "another-key"
    scene.write(20)
    scene.waits_for("misconfigured")
    scene.happens["the workers have the new key"] = lambda: setattr(scene.synced.endpoint, "api_key", "test-key")
    scene.solved = scene.settled
    yield


@contextmanager
def provider_down(scene: Scene) -> Iterator[None]:
    scene.worker()
    scene.synced.endpoint.fail("status", status=503)
    scene.write(20)
    scene.waits_for("cooling_down")

    def recovers() -> None:
        scene.synced.endpoint.heal()
        scene.settled()

    scene.solved = recovers
    yield


@contextmanager
def trigger_disabled(scene: Scene) -> Iterator[None]:
    scene.worker()
    scene.synced.run("ALTER TABLE articles DISABLE TRIGGER pgvector_sync_update")
    eventually(
        lambda: scene.value("SELECT problem FROM pgvector_sync.pipeline"), 60, what="the watch has noticed it"
    )
    scene.solved = lambda: scene.holds(
        "NOT EXISTS (SELECT FROM pg_trigger WHERE tgname LIKE 'pgvector_sync_%' AND tgenabled = 'D')"
    )
    yield


@contextmanager
def paused(scene: Scene) -> Iterator[None]:
    scene.worker()
    scene.run("pgvector-sync pause articles --reason 'import until Friday'")
    scene.write(20)
    scene.solved = scene.settled
    yield


@contextmanager
def removal_interrupted(scene: Scene) -> Iterator[None]:
    scene.synced.run("UPDATE pgvector_sync.pipeline SET state = 'removing' WHERE name = 'articles'")
    scene.solved = lambda: scene.holds("NOT EXISTS (SELECT FROM pgvector_sync.pipeline)")
    yield


# -- rows ----------------------------------------------------------------------------------------------------


@contextmanager
def poison_row(scene: Scene) -> Iterator[None]:
    scene.worker()
    scene.synced.endpoint.fail("status", marker="number 7", status=400, code="content_filter")
    scene.write(9)
    eventually(lambda: scene.value("SELECT count(*) FROM pgvector_sync.work WHERE verdict = 'dead'") == 1, 30)
    eventually(lambda: scene.value("SELECT count(*) FROM articles_embedding") == 8, 30)
    scene.happens["the provider accepts the text now"] = scene.synced.endpoint.heal
    scene.solved = scene.settled
    yield


@contextmanager
def drifted(scene: Scene) -> Iterator[None]:
    scene.worker()
    scene.write(20)
    scene.settled()
    scene.synced.run("SET session_replication_role = replica; DELETE FROM articles_embedding WHERE id < 4")
    scene.run("pgvector-sync reconcile articles --dry-run")
    scene.solved = scene.settled
    yield


# -- workers -------------------------------------------------------------------------------------------------


@contextmanager
def no_worker(scene: Scene) -> Iterator[None]:
    worker = scene.worker()
    worker.kill()
    scene.synced.run("UPDATE pgvector_sync.worker SET seen_at = seen_at - interval '3 minutes'")
    scene.write(20)
    scene.ages()
    scene.happens["a worker is started"] = scene.worker
    scene.solved = scene.settled
    yield


@contextmanager
def redis_away(scene: Scene) -> Iterator[None]:
    scene.worker()
    scene.beat()
    scene.cluster.valkey.stop()
    scene.write(20)
    scene.synced.run("UPDATE pgvector_sync.worker SET relayed_at = relayed_at - interval '1 minute'")
    scene.happens["Redis is back"] = scene.cluster.valkey.start
    scene.solved = scene.settled
    yield
    scene.cluster.valkey.start()


@contextmanager
def no_beat(scene: Scene) -> Iterator[None]:
    scene.worker()
    scene.beat().kill()
    scene.synced.run("UPDATE pgvector_sync.tick SET last_at = last_at - interval '5 minutes' WHERE name = 'tick'")
    scene.happens["beat is started"] = scene.beat
    yield


@contextmanager
def killed_children(scene: Scene) -> Iterator[None]:
    worker = scene.worker("prefork", 2)
    scene.synced.endpoint.latency = 3
    scene.write(20)
    scene.cluster.in_call(scene.cluster.calls())
    kill_children(worker)
    eventually(lambda: scene.value("SELECT count(*) FROM pgvector_sync.lease WHERE lost_at IS NOT NULL") > 0, 30)
    scene.synced.endpoint.latency = 0
    scene.solved = scene.settled
    yield


# -- provider and budget -------------------------------------------------------------------------------------


@contextmanager
def rate_limited(scene: Scene) -> Iterator[None]:
    scene.worker()
    scene.synced.endpoint.fail("status", status=429, code="rate_limit_exceeded", headers={"Retry-After": "30"})
    scene.write(20)
    refused = scene.cluster.calls() + 15

    def refused_again() -> bool:
        scene.run("pgvector-sync resume articles")
        return scene.cluster.calls() >= refused

    eventually(refused_again, 60, what="15 calls are refused")
    scene.waits_for("cooling_down")
    yield


@contextmanager
def budget_spent(scene: Scene) -> Iterator[None]:
    scene.write(20)
    scene.synced.declare("articles", source="articles", text=["title", "body"], tokens_per_day=10)
    scene.synced.apply()
    scene.worker()
    scene.settled()
    scene.run("pgvector-sync reembed articles --force --yes")
    eventually(lambda: "are spent" in scene.run("pgvector-sync status articles"), 30)
    yield


# -- the database --------------------------------------------------------------------------------------------


@contextmanager
def invalid_index(scene: Scene) -> Iterator[None]:
    scene.worker()
    scene.write(20)
    scene.settled()
    writer = session(scene.synced.database)
    writer.execute("LOCK TABLE articles_embedding IN ROW EXCLUSIVE MODE")  # which the build waits for
    build = "CREATE INDEX CONCURRENTLY articles_embedding_hnsw ON articles_embedding USING hnsw (embedding vector_cosine_ops)"
    with psycopg.connect(scene.env["OWNER_DATABASE_URL"], autocommit=True) as owner:
        owner.execute("SET statement_timeout = '300ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            owner.execute(build)
    writer.close()
    scene.solved = lambda: scene.holds(
        "(SELECT indisvalid FROM pg_index WHERE indexrelid = 'articles_embedding_hnsw'::regclass)"
    )
    yield


@contextmanager
def poor_index(scene: Scene) -> Iterator[None]:
    """An index whose links are too few, as of an index that has rotted."""
    scene.worker()
    scene.write(2_000)
    scene.settled()
    scene.synced.declare("articles", source="articles", text=["title", "body"], index={"method": "hnsw"})
    scene.synced.apply()
    build = "CREATE INDEX articles_embedding_hnsw ON articles_embedding USING hnsw (embedding vector_cosine_ops)"
    with psycopg.connect(scene.env["OWNER_DATABASE_URL"], autocommit=True) as owner:
        owner.execute(f"{build} WITH (m = 2, ef_construction = 4)")
        owner.execute("ANALYZE articles_embedding")

    def is_measured() -> None:
        with collected() as events:
            run_due(scene.synced.runtime, measure_recall.JOB)
            events.wait_for(RecallMeasured, 60)

    is_measured()
    scene.happens["the recall is measured again"] = is_measured
    yield


@contextmanager
def old_transaction(scene: Scene) -> Iterator[None]:
    scene.worker()
    scene.write(20)
    scene.settled()
    report = session(scene.synced.database, application_name="nightly report")
    report.execute("SELECT pg_current_xact_id()")
    pid = report.info.backend_pid
    scene.env["PID"] = str(pid)
    scene.solved = lambda: scene.holds(f"NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})")
    with pytest.MonkeyPatch.context() as patch:  # in production it takes five minutes until doctor reports it
        patch.setattr(vacuum, "MAX_TRANSACTION_AGE", vacuum.MAX_TRANSACTION_AGE * 0)
        yield
    report.close()


@contextmanager
def database_away(scene: Scene) -> Iterator[None]:
    scene.env["DATABASE_URL"] = "postgresql://sync_worker@127.0.0.1:1/app"
    yield


@contextmanager
def in_order(scene: Scene) -> Iterator[None]:
    scene.worker()
    scene.write(20)
    scene.settled()
    eventually(lambda: scene.value("SELECT count(*) FROM pgvector_sync.work") == 0, 30)
    yield


@contextmanager
def not_scraped(scene: Scene) -> Iterator[None]:
    """Everything runs, `serve` as well, but Prometheus doesn't reach it."""
    with in_order(scene), serving(scene.cluster.processes, PGVECTOR_SYNC_SERVE_TOKEN=TOKEN) as server:
        scene.env["PGVECTOR_SYNC_SERVE_TOKEN"] = TOKEN
        scene.serve_url = server.url
        yield


SCENES: dict[str, Callable[[Scene], AbstractContextManager[None]]] = {
    "Before you start": in_order,
    "PgvectorSyncFreshnessBurnsFast": too_slow,
    "PgvectorSyncFreshnessBurnsSlowly": too_slow,
    "PgvectorSyncOldestChange": locked_vectors,
    "The provider rejects the key": key_rejected,
    "The provider is down": provider_down,
    "The tables have changed": trigger_disabled,
    "It is paused": paused,
    "A removal was interrupted": removal_interrupted,
    "PgvectorSyncDeadLettersRising": poison_row,
    "The relay is silent": redis_away,
    "Beat is silent": no_beat,
    "PgvectorSyncNoWorker": no_worker,
    "PgvectorSyncProviderErrors": rate_limited,
    "PgvectorSyncLeasesExpiring": killed_children,
    "PgvectorSyncDriftFound": drifted,
    "PgvectorSyncDayTokensSpent": budget_spent,
    "PgvectorSyncIndexInvalid": invalid_index,
    "PgvectorSyncRecallBelowTarget": poor_index,
    "PgvectorSyncClaimTimeRising": old_transaction,
    "PgvectorSyncExporterDown": not_scraped,
    "PgvectorSyncDatabaseUnreachable": database_away,
}
"""The scene of each heading of the runbook that has commands."""
