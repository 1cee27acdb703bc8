"""The demo: a table of real text, a pipeline, and what happens to the vectors when rows change."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from pydantic import SecretStr

from pgvector_sync.declare.apply import apply_plan
from pgvector_sync.declare.file import load_config
from pgvector_sync.declare.planning import make_plan
from pgvector_sync.embedding.local_models.cores import threads_per_caller
from pgvector_sync.embedding.local_models.models import MINILM, WORDLLAMA, load_model
from pgvector_sync.errors import Misconfigured, Refused
from pgvector_sync.local import embedded
from pgvector_sync.local.demo_corpus import Docstring
from pgvector_sync.local.embedded import Embedded
from pgvector_sync.local.embedded.ownership import make_folder, require_own
from pgvector_sync.local.up import Up
from pgvector_sync.model import State
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.observe.search import nearest
from pgvector_sync.observe.status import read_status
from pgvector_sync.runtime import Runtime
from pgvector_sync.settings import Settings, load_settings

FOLDER = Path(".pgvector-sync-demo")
"""Next to a user's own `.pgvector-sync`, never inside it."""
PIPELINE = "docstrings"
CONFIG = """\
[pipelines.docstrings]
source = "docstrings"
text = ["name", "doc"]
provider = "local"
model = "{model}"
"""
TABLE = """\
CREATE TABLE docstrings (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    module text NOT NULL, name text NOT NULL, signature text NOT NULL, doc text NOT NULL
)"""
QUERIES = (
    "the average of some numbers",
    "smallest items first",
    "logging to a file that is rotated every night",
)
EDITED = ("calendar", "isleap")
EDITS = (
    "Mix flour, water and salt.",
    "Mix flour, water and salt, and add the sourdough.",
    "Mix flour, water and salt, add the sourdough and let the dough rise overnight.",
    "Let the dough rise overnight, then heat the oven.",
    "Let the dough rise overnight, then bake the bread in a hot oven.",
)
QUERY_AFTER_EDITS = "how to make a loaf of bread"

STALL_TIMEOUT = timedelta(minutes=1)
"""The demo fails if no row is embedded for this long."""
_STALL_SECONDS = int(STALL_TIMEOUT.total_seconds())


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A row found by a search."""

    similarity: float
    module: str
    name: str
    signature: str
    doc: str

    @property
    def place(self) -> str:
        """The full name, such as `random.Random.choice`."""
        return f"{self.module}.{self.name}" if self.name else self.module


class Demo:
    """The demo in its folder. The caller runs the steps and prints their results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.up = Up(folder)
        self._marker = folder / "demo"
        """Marks the folder as created by a demo, which may remove it."""
        self._kept = folder / "kept"

    def lock(self) -> None:
        """Lock the folder and remove what an earlier demo has left in it.

        Raises Refused if the folder wasn't created by a demo, is in use, or has a demo that was kept running.
        """
        make_folder(self.folder)
        if any(self.folder.iterdir()) and not self._marker.exists():
            raise Refused(
                f"{self.folder} wasn't created by a demo; the demo would remove it",
                hint="name a folder that doesn't exist yet: pgvector-sync demo --folder PATH",
            )
        self._lock()
        if self._kept.exists() and self.up.worker.is_running:
            raise Refused(
                f"a demo started with --keep is running in {self.folder}",
                hint=f"stop it: {self.stop_command}",
            )
        self.remove()
        self._lock()

    def lock_kept(self) -> None:
        """Lock the folder of a demo that was kept running. Raises Refused if there is none."""
        if not self._marker.exists():
            raise Refused(f"there is no demo in {self.folder}")
        require_own(self.folder)
        self._lock()

    def _lock(self) -> None:
        make_folder(self.folder)
        try:
            self._marker.write_text("Created by `pgvector-sync demo`, which also removes this folder.\n")
        except OSError as error:
            raise Refused(
                f"can't write to {self.folder}: {error.strerror}", hint="name another folder: --folder PATH"
            ) from error
        self.up.lock()

    @property
    def stop_command(self) -> str:
        folder = "" if self.folder == FOLDER else f" --folder {self.folder}"
        return f"pgvector-sync demo --stop{folder}"

    def start_servers(self) -> tuple[Embedded, Settings]:
        """Start the servers; returns them, and settings that use them regardless of the environment."""
        servers = self.up.start_servers(durable=False)
        redis_url = SecretStr(servers.redis_url)
        update = {
            "database_url": SecretStr(servers.database_url),
            "redis_url": redis_url,
            "celery_broker_url": redis_url,
        }
        return servers, load_settings().model_copy(update=update)

    def start_children(self, settings: Settings) -> None:
        """Start the worker and the beat in a folder where they don't find the user's `.env`."""
        environment = {
            **os.environ,
            **embedded.ENVIRONMENT,
            "DATABASE_URL": settings.database(),
            "REDIS_URL": settings.redis(),
            "CELERY_BROKER_URL": settings.broker(),
        }
        self.up.start_children(environment, folder=self.folder)

    def keep(self) -> None:
        """Leave everything running until `demo --stop`."""
        self._kept.touch()
        self.up.unlock()

    def stop(self, *, hurried: Callable[[], bool] = lambda: False) -> None:
        self.up.stop(hurried=hurried)

    def remove(self) -> None:
        """Stop all processes of the folder and remove it."""
        self.up.stop()
        embedded.remove(self.folder)
        self.up.unlock()


def fill_table(database_url: str, docstrings: Sequence[Docstring]) -> None:
    """Create the table `docstrings` with these rows, as an application would."""
    with psycopg.connect(database_url) as connection:
        connection.execute(TABLE)
        with connection.cursor().copy("COPY docstrings (module, name, signature, doc) FROM STDIN") as copy:
            for row in docstrings:
                copy.write_row((row.module, row.name, row.signature, row.first_paragraph))
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ANALYZE docstrings")


def versions(database_url: str) -> tuple[str, str | None]:
    """Return the versions of Postgres and of the available pgvector; None if there is none."""
    with psycopg.connect(database_url) as connection:
        version = connection.info.server_version
        vector = connection.execute(
            "SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"
        ).fetchone()
    return f"{version // 10000}.{version % 10000}", str(vector[0]) if vector else None


def best_model() -> str:
    """Return the better local model if it is installed and needs less than a minute: on two cores."""
    if threads_per_caller() == 1:
        return WORDLLAMA
    try:
        load_model(MINILM)
    except Misconfigured:
        return WORDLLAMA
    return MINILM


def config(model: str) -> str:
    """Return the demo's file."""
    return CONFIG.format(model=model)


def declare(runtime: Runtime, file: Path, model: str, *, say: Callable[[str], None]) -> str:
    """Write the file and apply it; returns the name of the target."""
    file.write_text(config(model))
    with runtime.database.transaction(force_rollback=True) as connection:
        plan = make_plan(connection, load_config(file))
    apply_plan(runtime.database, plan, say=say)
    (pipeline,) = plan.pipelines
    return pipeline.target[1]


def watch_sync(runtime: Runtime, up: Up) -> Iterator[int]:
    """Yield the number of rows that have a vector, several times per second, until nothing is waiting.

    Raises ChildEnded, and Refused if the pipeline stops or stalls.
    """
    embedded_rows, last_progress = -1, time.monotonic()
    while True:
        up.check()
        (status,) = read_status(runtime.database, PIPELINE)
        with runtime.database.connection() as connection:
            row = connection.execute("SELECT count(*) AS vectors FROM public.docstrings_embedding").fetchone()
        current = int(row["vectors"]) if row else 0
        yield current
        if status.settled:
            return
        if status.state in (State.MISCONFIGURED, State.PAUSED):
            raise Refused(f"the pipeline is {status.state}: {status.reason}")
        if current != embedded_rows:
            embedded_rows, last_progress = current, time.monotonic()
        elif timedelta(seconds=time.monotonic() - last_progress) > STALL_TIMEOUT:
            raise Refused(f"nothing was embedded for {_STALL_SECONDS} seconds", hint=f"see {up.worker.log}")
        time.sleep(0.1)


def find(runtime: Runtime, query: str, *, k: int = 3) -> list[SearchResult]:
    """Return the rows nearest to a query, nearest first."""
    hits = {hit.key[0]: hit for hit in nearest(runtime, PIPELINE, query, k=k)}
    with runtime.database.transaction(read_only=True) as connection:
        rows = connection.execute(
            "SELECT id, module, name, signature, doc FROM public.docstrings WHERE id = ANY (%s)", [list(hits)]
        ).fetchall()
    rows.sort(key=lambda row: hits[row["id"]].distance)
    return [SearchResult(hits[row.pop("id")].similarity, **row) for row in rows]


def edit(database_url: str, up: Up) -> list[timedelta]:
    """Edit a row several times; returns, per edit, the time from the commit until the new vector was stored.

    Raises ChildEnded, and Refused if a vector isn't updated in time.
    """
    with psycopg.connect(database_url, autocommit=True) as connection:
        return [_edit(connection, doc, up) for doc in EDITS]


def _edit(connection: psycopg.Connection[Any], doc: str, up: Up) -> timedelta:
    vector = (
        "SELECT v.fingerprint FROM public.docstrings_embedding v JOIN public.docstrings d USING (id) "
        "WHERE d.module = %s AND d.name = %s"
    )
    before = connection.execute(vector, EDITED).fetchone()
    connection.execute("UPDATE public.docstrings SET doc = %s WHERE module = %s AND name = %s", (doc, *EDITED))
    committed, timeout = time.monotonic(), Deadline.after(STALL_TIMEOUT)
    while connection.execute(vector, EDITED).fetchone() == before:
        up.check()
        if timeout.passed:
            raise Refused(
                f"the vector was not updated within {_STALL_SECONDS} seconds", hint=f"see {up.worker.log}"
            )
        time.sleep(0.001)
    return timedelta(seconds=time.monotonic() - committed)


def delete(database_url: str) -> tuple[int, int]:
    """Delete the edited row; returns its number of vectors before and after, within the same transaction."""
    vectors = "SELECT count(*) FROM public.docstrings_embedding WHERE id = %s"
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            "SELECT id FROM public.docstrings WHERE module = %s AND name = %s", EDITED
        ).fetchone()
        before = connection.execute(vectors, row).fetchone()
        connection.execute("DELETE FROM public.docstrings WHERE id = %s", row)
        after = connection.execute(vectors, row).fetchone()
    return (before or (0,))[0], (after or (0,))[0]
