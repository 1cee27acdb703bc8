"""The database: unreachable, not migrated, with vacuum held back, or behind a pooler."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from psycopg.conninfo import conninfo_to_dict

from pgvector_sync.client.documents import write_document
from pgvector_sync.observe.doctor import examine, vacuum
from pgvector_sync.observe.doctor.server import judge_version
from pgvector_sync.settings import Settings
from pgvector_sync.store.migrations import migrate
from pgvector_sync.store.server import Extension
from support import synced as with_endpoint
from support.examined import errors, follow_advice, look, the
from support.pgbouncer import installed, start_pgbouncer
from support.processes import Processes
from support.servers import Database, Postgres
from support.synced import Synced
from support.waiting import eventually


def test_no_database_is_configured(redis_url: str) -> None:
    checks = examine(Settings(_env_file=None, REDIS_URL=redis_url))
    assert "DATABASE_URL" in the("database", checks).seen
    assert the("redis", checks).level == "ok"


def test_a_wrong_password(docs: Synced, redis_url: str) -> None:
    password = conninfo_to_dict(docs.database.url)["password"]
    checks = look(docs.database.url.replace(f":{password}@", ":guessed-secret@"), REDIS_URL=redis_url)
    assert "guessed-secret" not in write_document({"checks": checks})
    [error] = errors(checks)
    assert "rejected the password of postgres" in error.seen
    with_right_one = (error.advice or "").partition("administrator: ")[2].replace("…", str(password))
    docs.database.execute(with_right_one)
    assert errors(look(docs.database.url, REDIS_URL=redis_url)) == []


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("postgresql://u:sec@ret@127.0.0.1:1/app", "can't be parsed"),
        ("postgresql://u:sec/ret@127.0.0.1:1/app", "can't be parsed"),
        ("sec ret", "isn't a valid connection string"),
        ("postgresql://u:secret@127.0.0.1:1/app", "can't connect to 127.0.0.1:1"),
        ("postgresql://u:secret@no.such.host.invalid/app", "unknown host no.such.host.invalid"),
    ],
)
def test_a_wrong_address_shows_no_part_of_the_password(url: str, seen: str) -> None:
    found = the("database", look(url))
    assert (found.level, seen in found.seen) == ("error", True), found.seen
    assert "ret" not in found.seen + (found.advice or "")


def test_no_such_database(postgres: Postgres) -> None:
    found = the("database", look(postgres.url_of("no_such_database")))
    assert "has no database no_such_database" in found.seen
    assert found.advice is not None
    statement = found.advice.partition("or ")[2]
    with postgres.connect() as connection:
        try:
            connection.execute(statement)
            assert the("database", look(postgres.url_of("no_such_database"))).level == "ok"
        finally:
            connection.execute("DROP DATABASE no_such_database WITH (FORCE)")


def test_a_database_without_our_schema(bare_database: Database) -> None:
    checks = look(bare_database.url)
    assert [check.name for check in errors(checks)] == ["pgvector", "schema"]
    bare_database.execute(the("pgvector", checks).advice or "")
    assert "pgvector-sync migrate" in (the("schema", checks).advice or "")
    migrate(bare_database.url)
    checks = look(bare_database.url)
    assert errors(checks) == []
    assert the("pipelines", checks).seen == "none yet"


def test_a_database_with_another_encoding(postgres: Postgres) -> None:
    with postgres.connect() as connection:
        for name, level in (("SQL_ASCII", "error"), ("LATIN1", "warning")):
            connection.execute(
                f"CREATE DATABASE other ENCODING '{name}' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0"
            )
            try:
                checks = look(postgres.url_of("other"))
            finally:
                connection.execute("DROP DATABASE other WITH (FORCE)")
            assert the("encoding", checks).level == level
            assert the("pgvector", checks).seen == "the extension vector isn't installed in this database"


def test_pgvector_in_a_schema_without_usage_for_the_role(
    bare_database: Database, worker_role_of_bare: str
) -> None:
    bare_database.execute("CREATE SCHEMA extensions")
    bare_database.execute("CREATE EXTENSION vector SCHEMA extensions")
    url = bare_database.url_as(worker_role_of_bare)
    found = the("pgvector", look(url))
    assert found.level == "error"
    bare_database.execute(found.advice or "")
    assert the("pgvector", look(url)).seen.endswith("in schema extensions")


@pytest.mark.parametrize(
    ("version", "level", "seen", "advice"),
    [
        ("0.8.0", "warning", "CVE-2026-3172", "SET max_parallel_maintenance_workers = 0;"),
        ("0.8.0", "warning", "can corrupt an HNSW index", "REINDEX INDEX CONCURRENTLY"),
        ("0.8.3", "warning", "hnsw graph not repaired", "install pgvector 0.8.4 or later"),
        ("0.8.4", "ok", "memory required is", "install pgvector 0.8.5 or later"),
    ],
)
def test_a_version_with_known_bugs_is_named_with_what_ends_them(
    version: str, level: str, seen: str, advice: str
) -> None:
    installed = Extension(version, "public", "app", usable=True, files=version, bits=64)
    [finding] = judge_version(installed, f"pgvector {version}")
    assert finding.level == level
    assert seen in finding.seen
    assert advice in (finding.advice or "")


def test_an_old_extension_runs_the_newer_library_of_the_server(bare_database: Database) -> None:
    bare_database.execute("CREATE EXTENSION vector")
    bare_database.execute("UPDATE pg_extension SET extversion = '0.8.0' WHERE extname = 'vector'")
    found = the("pgvector", look(bare_database.url))
    assert found.seen.startswith("pgvector 0.8.0 ")
    assert "CVE" not in found.seen


@pytest.fixture
def worker_role_of_bare(bare_database: Database) -> Iterator[str]:
    with with_endpoint.role(bare_database, "worker") as name:
        yield name


def test_timeouts_that_contradict_each_other(docs: Synced) -> None:
    assert the("timeouts", look(docs.database.url, provider_timeout="180")).level == "error"
    assert the("timeouts", look(docs.database.url, lock_timeout="0.09")).level == "warning"


def test_a_transaction_that_holds_back_vacuum(docs: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vacuum, "MAX_TRANSACTION_AGE", vacuum.MAX_TRANSACTION_AGE * 0)
    report = with_endpoint.session(docs.database, application_name="a long report")
    report.execute("SELECT pg_current_xact_id()")
    found = the("transactions", look(docs.database.url))
    assert found.level == "warning"
    assert "a long report" in found.seen
    docs.run((found.advice or "").partition("or: ")[2])
    assert eventually(lambda: the("transactions", look(docs.database.url)).level == "ok")
    report.close()


def test_a_role_that_sees_only_its_own_sessions_is_told(docs: Synced, worker_role: str) -> None:
    url = docs.database.url_as(worker_role)
    follow_advice(docs.database, url)
    remark = the("transactions", look(url)).advice
    docs.run((remark or "").partition("to see all: ")[2])
    assert the("transactions", look(url)).advice is None


def test_events_that_are_not_drained(docs: Synced) -> None:
    docs.run(
        "UPDATE docs SET body = 'uno' WHERE id = 1", "UPDATE pgvector_sync.outbox SET at = at - interval '1 hour'"
    )
    assert the("outbox", look(docs.database.url)).seen.startswith("the oldest event has waited 1:00:0")
    docs.settle()
    assert the("outbox", look(docs.database.url)).level == "ok"


@installed
@pytest.mark.parametrize(
    ("mode", "seen"),
    [("transaction", "transaction mode, such"), ("session", "session mode"), ("statement", "statement mode")],
)
def test_a_pooler(
    docs: Synced, processes: Processes, pgbouncer: Callable[[str], str], mode: str, seen: str
) -> None:
    checks = look(pgbouncer(mode))
    if mode == "statement":
        assert [seen in check.seen for check in errors(checks)] == [True]
    else:
        assert errors(checks) == []
        assert seen in the("pooler", checks).seen


@pytest.fixture
def pgbouncer(
    database: Database, processes: Processes, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], str]:
    """Starts PgBouncer in the mode, and returns the database's URL through it."""
    given = conninfo_to_dict(database.url)
    passwords = {str(given["user"]): str(given["password"])}

    def start(mode: str) -> str:
        pooler = start_pgbouncer(processes, database, passwords, tmp_path_factory.mktemp("pgbouncer"), mode=mode)
        return pooler.url(str(given["user"]))

    return start
