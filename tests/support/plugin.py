"""The options, and real servers: one per session (and pytest-xdist worker), with one database per test."""

from __future__ import annotations

import gc
import importlib
import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis
from hypothesis import settings

from pgvector_sync.engine import jobs
from pgvector_sync.telemetry.events.dispatch import JobFailed
from support import canaries, traces
from support.beginnings import default_source
from support.events import collected
from support.processes import Processes
from support.roles import GRANTS_OF_SOURCES, OWNER, set_up_roles
from support.servers import PACKAGES, Database, Postgres, Valkey, new_database, running_postgres, running_valkey

# random examples may fail on a developer's machine, but not in CI, where an unrelated change would be blamed
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres",
        type=int,
        choices=sorted(PACKAGES),
        default=int(os.environ.get("PGVECTOR_SYNC_TEST_POSTGRES", "18")),
        help="the major version of PostgreSQL to test on",
    )


def pytest_configure() -> None:
    traces.install()


def pytest_report_header(config: pytest.Config) -> str:
    return f"PostgreSQL {config.getoption('--postgres')}"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Excludes the modules and tests from garbage collection: they live until the end, and there are thousands."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On an older PostgreSQL, keeps only tests that use it: the results of all others would be the same."""
    _mark_slow_variants(items)
    if config.getoption("--postgres") == max(PACKAGES):
        return
    kept = [item for item in items if "postgres" in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _mark_slow_variants(items: list[pytest.Item]) -> None:
    """Marks the variants of a test as slow, except for the number in its marker `quick_variants`, evenly spread."""
    variants: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("quick_variants"):
            variants.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for family in variants.values():
        [number] = family[0].get_closest_marker("quick_variants").args  # type: ignore[union-attr]
        quick = {index * len(family) // number for index in range(number)}
        for index, item in enumerate(family):
            if index not in quick:
                item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keeps the developer's environment, `.env` and `.pgvector-sync` out of every test."""
    for name in list(os.environ):
        if name.startswith(("PGVECTOR_SYNC_", "CELERY_", "OPENAI_")) or name in {"DATABASE_URL", "REDIS_URL"}:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _nothing_leaks() -> Iterator[None]:
    """Fails a test that has logged, or written to our tables, a text of a row, a key of type text, or a secret (G13)."""
    with canaries.watched():
        yield


@pytest.fixture(autouse=True)
def _no_job_fails() -> Iterator[None]:
    """Fails a test in which a periodic job raises: the job runner itself only reports the exception and continues."""
    with collected() as events:
        yield
    listed = {job.name for job in jobs.ALL}
    failed = [event for event in events.of(JobFailed) if event.job in listed]
    assert not failed, failed[0].error


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes retries within a call a hundred times as fast as in production."""
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda seconds: time.sleep(seconds / 100)))


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    with running_postgres(request.config.getoption("--postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    with running_valkey() as server:
        yield server


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> Iterator[Database]:
    """The template of `database`: the vector extension, our migrations, and the roles of `sql/roles.sql`.

    No session may stay connected to it, or it can't be copied.
    """
    with new_database(postgres) as database:
        set_up_roles(database)
        importlib.import_module("pgvector_sync.store.migrations").migrate(database.url_as(OWNER))
        set_up_roles(database)
        database.execute(GRANTS_OF_SOURCES)
        yield database


@pytest.fixture
def database(request: pytest.FixtureRequest, postgres: Postgres, template: Database) -> Iterator[Database]:
    """A migrated database, dropped afterwards. It is filled if the test uses `applied` or `beginning`."""
    if "beginning" in request.fixturenames:
        template = request.getfixturevalue("beginnings")(request.getfixturevalue("beginning")).database
    elif "applied" in request.fixturenames:
        template = request.getfixturevalue("beginnings")(default_source).database
    with new_database(postgres, template=template.name) as database:
        yield database


@pytest.fixture
def database_url(database: Database) -> str:
    return database.url


@pytest.fixture
def bare_database(postgres: Postgres) -> Iterator[Database]:
    """A database without the vector extension and our schema."""
    with new_database(postgres) as database:
        yield database


@pytest.fixture
def bare_database_url(bare_database: Database) -> str:
    return bare_database.url


@pytest.fixture
def redis_url(valkey: Valkey) -> str:
    """The URL of Valkey, emptied."""
    valkey.start()  # a test may have left it dead
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
    return valkey.url


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Starts processes that end with the test; all of them get the variables in `processes.env`."""
    started = Processes(tmp_path, {})
    yield started
    started.end()
