"""The command lines of the manifests, run as real processes: the order in which they start doesn't matter."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from support.cluster import READY
from support.processes import Process, Processes
from support.roles import GRANTS_OF_SOURCES, OWNER, WORKER, set_up_roles
from support.servers import Database
from support.waiting import eventually

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
FILE = """
[pipelines.docs]
source = "docs"
text = ["body"]
provider = "local"
"""


class Pods:
    """Starts the processes of the manifests, with the roles that their Secrets are meant for."""

    def __init__(self, database: Database, processes: Processes) -> None:
        self.database, self.processes = database, processes
        self.empty = processes.folder / "home"
        self.empty.mkdir()
        self.file = processes.folder / "pgvector-sync.toml"

    def start(self, component: str) -> Process:
        manifest, *_ = yaml.safe_load_all((FOLDER / f"{component}.yaml").read_text("utf-8"))
        [container] = manifest["spec"]["template"]["spec"]["containers"]
        words = [
            word.replace("/etc/pgvector-sync/pgvector-sync.toml", str(self.file)) for word in container["args"]
        ]
        role = OWNER if manifest["kind"] == "Job" else WORKER
        return self.processes.command(
            *words,
            DATABASE_URL=self.database.url_as(role),
            HOME=str(self.empty),
            TMPDIR=str(self.empty),
            **{entry["name"]: entry["value"] for entry in container.get("env", [])},
        )


@pytest.fixture
def pods(bare_database: Database, processes: Processes, redis_url: str) -> Pods:
    processes.env["REDIS_URL"] = redis_url
    return Pods(bare_database, processes)


@pytest.mark.slow
def test_workers_that_start_first_wait_and_work_once_everything_is_there(pods: Pods) -> None:
    database = pods.database
    set_up_roles(database)
    database.execute(GRANTS_OF_SOURCES)
    worker, beat = pods.start("worker"), pods.start("beat")
    for process in (worker, beat):
        process.wait_for("waiting_for_database")
    pods.file.write_text(FILE)
    assert pods.start("apply").wait() == 1, "the Job is tried again"
    assert pods.start("migrate").wait() == 0
    set_up_roles(database)
    database.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    database.execute("INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, 20) AS i")
    assert pods.start("apply").wait() == 0
    worker.wait_for(READY)
    stored = "SELECT count(*) FROM docs_embedding"
    eventually(lambda: database.value(stored) == 20, 30, what="the backfill is done")
    database.execute("INSERT INTO docs VALUES (21, 'a change')")
    eventually(lambda: database.value(stored) == 21, 30, what="a change is embedded")
    ticks = "SELECT count(*) FROM pgvector_sync.tick WHERE name = 'tick'"
    eventually(lambda: database.value(ticks) == 1, 30, what="the beat's tick is taken")
    assert (worker.terminate(), beat.terminate()) == (0, 0)
    written = {path.name for path in pods.processes.folder.iterdir() if path.suffix != ".log"}
    assert written == {"pgvector-sync.toml", "home"}, "the working directory may be read-only"
    assert not [path for path in pods.empty.rglob("*") if not path.is_dir()], (
        "and the home; /tmp had a socket at most"
    )
