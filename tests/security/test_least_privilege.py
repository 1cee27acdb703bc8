"""Everything that pgvector-sync does, each by the role that is meant for it, directly and through PgBouncer in transaction mode.

The roles are those of `sql/roles.sql`, made by an administrator who isn't a superuser. Every process logs in as its role.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from pgvector_sync.runtime.bootstrap import open_database
from pgvector_sync.settings import Settings
from support.cluster import READY
from support.deployment import ADMINISTRATOR, Deployment
from support.endpoint import ENVIRONMENT, Endpoint
from support.pgbouncer import installed, start_pgbouncer
from support.processes import Processes
from support.scraped import scrape
from support.synced import DIMENSIONS, MODEL, TEXT_LIMIT
from support.waiting import eventually

FILE = """
[providers.test]
base_url = "{base_url}"
api_key_env = "TEST_KEY"

[pipelines.articles]
source = "articles"
text = ["title", "body"]
provider = "test"
model = "{model}"
dimensions = {dimensions}
"""
SECRET = "the text of a row that only sources, workers and the provider see "
Url = Callable[..., str]


@dataclass
class Installation:
    """A deployment with its pipeline's file, and the way in which its roles connect."""

    deployment: Deployment
    url: Url
    processes: Processes

    def command(self, kind: str, *arguments: str, code: int = 0) -> str:
        """Runs a command as a role, and returns what it printed."""
        process = self.processes.command(*arguments, DATABASE_URL=self.url(kind))
        ended = process.wait(60)
        assert ended == code, f"{arguments} as {kind} ended with {ended}:\n{process.printed}"
        assert "Traceback" not in process.printed
        return process.printed

    def document(self, kind: str, *arguments: str, code: int = 0) -> dict[str, Any]:
        printed = self.command(kind, *arguments, "--json", code=code)
        document: dict[str, Any] = json.loads(
            printed[printed.index("{") : printed.rindex("}") + 1]
        )  # not the progress
        return document

    def write(self, *statements: str) -> None:
        """Runs statements as the application."""
        with psycopg.connect(self.url("application"), autocommit=True, prepare_threshold=None) as application:
            for statement in statements:
                application.execute(statement)

    def monitored(self, query: str) -> list[Any]:
        """The first column of what the monitor reads."""
        with psycopg.connect(self.url("monitor"), autocommit=True, prepare_threshold=None) as monitor:
            return [value for (value,) in monitor.execute(query)]

    def stored(self) -> set[int]:
        """The keys that the application finds in the target."""
        with psycopg.connect(self.url("application"), autocommit=True, prepare_threshold=None) as application:
            return {key for (key,) in application.execute("SELECT id FROM articles_embedding")}

    def stores(self, *keys: int) -> None:
        eventually(lambda: self.stored() == set(keys), 30, what=f"vectors of {keys}")


@pytest.fixture(params=["directly", pytest.param("through PgBouncer", marks=installed)])
def installation(
    request: pytest.FixtureRequest,
    deployment: Deployment,
    shared: tuple[Endpoint, object],
    redis_url: str,
    processes: Processes,
    tmp_path_factory: pytest.TempPathFactory,
) -> Installation:
    assert deployment.run_file(ADMINISTRATOR).returncode == 0
    endpoint, _ = shared
    endpoint.reset()
    url: Url = deployment.url
    if request.param == "through PgBouncer":
        folder = tmp_path_factory.mktemp("pgbouncer")
        pooler = start_pgbouncer(processes, deployment.database, deployment.passwords, folder, default_pool_size=4)

        def url(kind: str) -> str:
            return pooler.url(deployment.names[kind])

    processes.env |= {"REDIS_URL": redis_url, **ENVIRONMENT, "PGVECTOR_SYNC_TEXT_LIMIT_BYTES": str(TEXT_LIMIT)}
    text = FILE.format(base_url=endpoint.base_url, model=MODEL, dimensions=DIMENSIONS)
    (processes.folder / "pgvector-sync.toml").write_text(text, "utf-8")
    return Installation(deployment, url, processes)


@pytest.mark.slow
def test_every_role_can_do_all_that_it_is_meant_for(installation: Installation):
    owner_sets_up(installation)
    worker, beat = (installation.processes.command(*words, DATABASE_URL=installation.url("worker")) for words in
                    (("worker", "--concurrency", "2"), ("beat",)))  # fmt: skip
    worker.wait_for(READY)
    changes_are_embedded(installation)
    workers_role_pauses_reconciles_and_reembeds(installation)
    dead_letters_are_listed_retried_and_discarded(installation)
    application_searches_and_enqueues(installation)
    monitor_sees_everything_but_text(installation)
    monitor_scrapes_the_metrics(installation)
    for process in (worker, beat):
        assert process.terminate() == 0
        assert "permission denied" not in process.printed
        assert SECRET not in process.printed
    owner_removes(installation)


def owner_sets_up(installation: Installation) -> None:
    deployment = installation.deployment
    installation.command("owner", "migrate")
    assert deployment.run_file("owner").returncode == 0
    deployment.grant_on_sources()
    installation.write(f"INSERT INTO articles VALUES (1, 'one', '{SECRET}'), (2, 'two', NULL)")
    assert installation.document("owner", "apply", "--yes")["applied"]
    assert installation.document("owner", "apply", "--check")["pending"] is False
    assert deployment.run_file("owner").returncode == 0  # grants the application the target


def changes_are_embedded(installation: Installation) -> None:
    installation.stores(1, 2)  # by the backfill
    installation.write("INSERT INTO articles VALUES (3, 'three', '')")
    installation.stores(1, 2, 3)
    installation.write("DELETE FROM articles WHERE id = 2")
    installation.stores(1, 3)
    installation.write(
        "DELETE FROM articles WHERE id = 3",
        "UPDATE articles SET title = 'uno', body = '' WHERE id = 1",
        "INSERT INTO articles VALUES (4, 'four', '')",
    )
    installation.stores(1, 4)


def workers_role_pauses_reconciles_and_reembeds(installation: Installation) -> None:
    installation.command("worker", "pause", "articles", "--reason", "a test")
    [status] = installation.document("monitor", "status")["pipelines"]
    assert status["state"] == "paused"
    installation.command("worker", "resume", "articles")
    installation.deployment.database.execute("DELETE FROM articles_embedding WHERE id = 4")
    [found] = installation.document("worker", "reconcile", "articles", "--deep", "--wait")["reconciliations"]
    assert found["missing"] == 1
    installation.stores(1, 4)
    installation.command("worker", "reembed", "articles", "--force", "--yes", "--wait")
    runs = installation.document("monitor", "runs", "list")["runs"]
    assert {run["kind"] for run in runs} >= {"backfill", "reconcile", "reembed"}
    assert {run["state"] for run in runs} == {"finished"}


def dead_letters_are_listed_retried_and_discarded(installation: Installation) -> None:
    installation.write(f"INSERT INTO articles VALUES (9, 'too long', repeat('x', {2 * TEXT_LIMIT}))")

    def attempts_of_dead() -> list[int]:
        return installation.monitored("SELECT attempts FROM pgvector_sync.work WHERE verdict = 'dead'")

    eventually(attempts_of_dead, 20)
    [dead] = installation.document("monitor", "dead-letters", "list")["dead_letters"]
    assert dead["key"] == [9]
    installation.command("worker", "dead-letters", "requeue", "articles", "--all")
    eventually(attempts_of_dead, 20, what="it is a dead letter again")
    installation.command("worker", "dead-letters", "discard", "articles", "--all")
    assert attempts_of_dead() == []


def application_searches_and_enqueues(installation: Installation) -> None:
    hits = installation.document("application", "search", "articles", "uno")["hits"]
    assert sorted(hit["key"] for hit in hits) == [[1], [4]]
    installation.deployment.database.execute("DELETE FROM articles_embedding WHERE id = 1")
    installation.write("SELECT pgvector_sync.enqueue('articles', 1::bigint)")
    installation.stores(1, 4)


def monitor_sees_everything_but_text(installation: Installation) -> None:
    eventually(
        lambda: (
            installation.monitored(
                "SELECT last_at FROM pgvector_sync.tick WHERE name = 'tick' AND last_at IS NOT NULL"
            )
            != []
        ),
        20,
    )
    status = installation.document("monitor", "status")
    assert status["workers"]["alive"] == 1
    assert status["workers"]["last_tick_seconds"] is not None
    assert installation.document("monitor", "health")["healthy"]
    checks = installation.document("monitor", "doctor", "--offline")["checks"]
    assert [check for check in checks if check["level"] == "error"] == []
    checks = installation.document("worker", "doctor")["checks"]
    assert {check["name"] for check in checks if check["level"] != "ok"} == {"drift"}  # which the test made


def monitor_scrapes_the_metrics(installation: Installation) -> None:
    settings = Settings(DATABASE_URL=installation.url("monitor"), _env_file=None)
    with open_database(settings) as database:
        seen = scrape(database)
    assert seen.value("up") == 1
    assert (seen.value("rows_total", pipeline="articles", lane="live", outcome="stored") or 0) > 0
    assert (seen.value("provider_calls_total", pipeline="articles", outcome="ok") or 0) > 0


def owner_removes(installation: Installation) -> None:
    installation.command("owner", "remove", "articles", "--yes")
