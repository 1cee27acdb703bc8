"""The situations of docs/runbook.md, staged with real servers, a real worker and a real endpoint."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgvector_sync.cli import main
from pgvector_sync.settings import load_settings
from support.blocks import search_path
from support.cluster import Cluster, kill_children
from support.processes import Process
from support.synced import Synced, session
from support.waiting import eventually

SOURCE = "CREATE TABLE articles (id bigint PRIMARY KEY, title text, body text)"


@dataclass
class Scene:
    cluster: Cluster
    folder: Path
    happens: dict[str, Callable[[], object]] = field(default_factory=dict)
    """What a mark in the runbook says that happens before a command."""
    env: dict[str, str] = field(default_factory=dict)
    solved: Callable[[], object] = lambda: None
    """Waits until what the runbook says has solved it, or fails."""

    @property
    def synced(self) -> Synced:
        return self.cluster.synced

    def worker(self, pool: str = "threads", concurrency: int = 4, **env: str) -> Process:
        return self.cluster.worker(pool, concurrency, **env)

    def beat(self) -> Process:
        process = self.cluster.processes.command("beat")
        eventually(lambda: self.value("SELECT max(last_at) FROM pgvector_sync.tick WHERE name = 'tick'"), 30)
        return process

    def write(self, count: int, *, start: int = 1) -> None:
        self.synced.run(
            f"INSERT INTO articles SELECT i, 'Title ' || i, 'About the number ' || i FROM generate_series({start}, {start + count - 1}) AS i",
            "ANALYZE articles",
        )

    def ages(self) -> None:
        """Makes everything that waits ten minutes older."""
        self.synced.run(
            "UPDATE pgvector_sync.work SET waiting_since = waiting_since - interval '10 minutes'",
            "UPDATE pgvector_sync.outbox SET at = at - interval '10 minutes'",
        )

    def value(self, query: str) -> Any:
        return self.synced.database.value(query)

    def state(self) -> str:
        return self.value("SELECT state FROM pgvector_sync.pipeline WHERE name = 'articles'")

    def waits_for(self, state: str) -> None:
        eventually(lambda: self.state() == state, 30, what=f"articles is {state}")

    def holds(self, condition: str) -> None:
        eventually(lambda: self.value(f"SELECT {condition}"), 30, what=condition)

    def settled(self) -> None:
        """Waits until every article has its vector."""
        missing = "SELECT count(*) FROM articles FULL JOIN articles_embedding USING (id) WHERE embedding IS NULL OR body IS NULL"
        eventually(lambda: self.value(missing) == 0, 60, what="every article has its vector")

    def run(self, body: str) -> str:
        """Runs a command of the runbook, and returns what it prints to stdout and stderr."""
        given = re.fullmatch(r"(?:DATABASE_URL=\$(?P<url>\w+) )?pgvector-sync (?P<arguments>.+)", body)
        if given:  # in this process, where a test can shorten what takes minutes
            url = {"DATABASE_URL": self.env[given["url"]]} if given["url"] else {}
            return self._in_this_process(shlex.split(given["arguments"]), url)
        done = subprocess.run(
            ["bash", "-uo", "pipefail", "-c", body],
            env=os.environ | self.env | {"PATH": search_path()},
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.stdout

    def _in_this_process(self, arguments: list[str], env: dict[str, str]) -> str:
        printed = io.StringIO()
        load_settings.cache_clear()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(printed):
            for name, value in (self.env | env).items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main(arguments)
        load_settings.cache_clear()
        assert ended.value.code in {0, 1, None}, printed.getvalue()
        return printed.getvalue()


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
def old_transaction(scene: Scene) -> Iterator[None]:
    from pgvector_sync.observe.doctor import vacuum

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
    "PgvectorSyncClaimTimeRising": old_transaction,
    "PgvectorSyncExporterDown": in_order,
    "PgvectorSyncDatabaseUnreachable": database_away,
}
"""The scene of each heading of the runbook that has commands."""
