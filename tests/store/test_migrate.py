"""Creating the schema: once, by the first process, and only where it fits."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from pgvector_sync.database import connect
from pgvector_sync.database.statements import sql_folder
from pgvector_sync.errors import MigrationRefused, Refused
from pgvector_sync.store.migrations import SHUTS_OUT, check_schema, migrate, migrations
from support import synced
from support.processes import Processes
from support.servers import Database

MIGRATE = (
    "import sys; from pgvector_sync.store.migrations import migrate; print('applied', len(migrate(sys.argv[1])))"
)


@pytest.fixture
def role(bare_database: Database) -> Iterator[Callable[..., str]]:
    with ExitStack() as roles:
        yield lambda name, *grants: roles.enter_context(synced.role(bare_database, name, *grants))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the migrations, to add to or edit."""
    return Path(shutil.copytree(sql_folder() / "migrations", tmp_path / "migrations"))


def test_migrating_creates_extension_and_schema_and_a_second_run_does_nothing(bare_database: Database):
    applied = migrate(bare_database.url)
    assert [m.number for m in applied] == [m.number for m in migrations()]
    assert bare_database.value("SELECT count(*) FROM pg_extension WHERE extname = 'vector'") == 1
    before = bare_database.execute("SELECT * FROM pgvector_sync.applied_migration")
    assert migrate(bare_database.url) == []
    assert bare_database.execute("SELECT * FROM pgvector_sync.applied_migration") == before


def test_eight_processes_that_migrate_at_once_all_succeed_and_one_applies(
    bare_database: Database, processes: Processes
):
    started = [processes.python(MIGRATE, bare_database.url) for _ in range(8)]
    assert [process.wait(60) for process in started] == [0] * 8
    printed = sorted(process.printed.strip() for process in started)
    assert printed == ["applied 0"] * 7 + [f"applied {len(migrations())}"]


def test_many_threads_that_upgrade_at_once_apply_each_migration_once(database: Database, folder: Path):
    number = migrations()[-1].number + 1
    (folder / f"{number:04d}_more.sql").write_text("CREATE TABLE pgvector_sync.more (id int);")
    with ThreadPoolExecutor(8) as pool:
        applied = list(pool.map(lambda _: migrate(database.url, folder=folder), range(8)))
    assert sorted(map(len, applied)) == [0] * 7 + [1]


def test_a_migration_that_fails_leaves_nothing_behind(database: Database, folder: Path):
    number = migrations()[-1].number + 1
    broken = folder / f"{number:04d}_broken.sql"
    broken.write_text("CREATE TABLE pgvector_sync.half (id int); SELECT 1 / 0;")
    with pytest.raises(Exception, match="division by zero"):
        migrate(database.url, folder=folder)
    assert database.value("SELECT to_regclass('pgvector_sync.half')") is None
    assert migrate(database.url) == []
    broken.write_text("CREATE TABLE pgvector_sync.half (id int);")
    assert [m.name for m in migrate(database.url, folder=folder)] == ["broken"]


def add(folder: Path, name: str, body: str) -> int:
    """Adds a migration of a later release; returns its number."""
    number = migrations(folder)[-1].number + 1
    (folder / f"{number:04d}_{name}.sql").write_text(body)
    return number


def test_a_schema_with_additive_migrations_of_a_later_release_is_accepted(database: Database, folder: Path):
    add(folder, "more", "CREATE TABLE pgvector_sync.more (id int);")
    migrate(database.url, folder=folder)
    assert migrate(database.url) == []
    with connect(database.url) as connection:
        check_schema(connection)


def test_a_schema_that_shuts_this_program_out_is_refused_by_migrate_and_by_every_command(
    database: Database, folder: Path
):
    newest = migrations()[-1].number
    number = add(folder, "other", f"{SHUTS_OUT}\nALTER TABLE pgvector_sync.tick RENAME TO ticks;")
    add(folder, "more", "SELECT 1;")
    migrate(database.url, folder=folder)
    database.execute("UPDATE pgvector_sync.applied_migration SET program = '0.9.0' WHERE number > %s", newest)
    message = f"migrated by pgvector-sync 0.9.0 to {number:04d}_other, which shuts out this program"
    with pytest.raises(MigrationRefused, match=message) as refused:
        migrate(database.url)
    assert refused.value.hint.endswith("pip install --upgrade 'pgvector-sync>=0.9.0'")
    with connect(database.url) as connection:
        with pytest.raises(MigrationRefused, match=message):
            check_schema(connection)
        check_schema(connection, folder=folder)  # the program that knows it


def test_a_migration_edited_after_it_was_applied_is_refused(database: Database, folder: Path):
    first = next(iter(sorted(folder.glob("*.sql"))))
    first.write_text(first.read_text() + "-- one more line\n")
    with pytest.raises(MigrationRefused, match=f"{first.stem} was edited after it had been applied"):
        migrate(database.url, folder=folder)


def test_a_database_behind_the_program_is_refused_by_every_command_with_the_fix(database: Database, folder: Path):
    number = migrations()[-1].number + 1
    (folder / f"{number:04d}_more.sql").write_text("SELECT 1;")
    with connect(database.url) as connection:
        with pytest.raises(MigrationRefused, match=f"lacks {number:04d}_more") as refused:
            check_schema(connection, folder=folder)
        assert refused.value.hint == "run `pgvector-sync migrate`"
        migrate(database.url, folder=folder)
        check_schema(connection, folder=folder)


def test_a_database_without_our_schema_is_refused_by_every_command_with_the_fix(bare_database: Database):
    with connect(bare_database.url) as connection, pytest.raises(MigrationRefused) as refused:
        check_schema(connection)
    assert refused.value.hint == "run `pgvector-sync migrate`"


def test_a_role_that_may_not_create_the_extension_is_told_one_statement_and_then_the_next(
    bare_database: Database, role: Callable[..., str]
):
    worker = role("worker")
    url = bare_database.url_as(worker)
    with pytest.raises(Refused, match=f"role {worker} may not create the extension vector") as refused:
        migrate(url)
    statement = refused.value.hint.removeprefix("as an administrator, run: ")
    bare_database.execute(statement)
    with pytest.raises(Refused, match=f"role {worker} may not create the schema pgvector_sync") as refused:
        migrate(url)
    bare_database.execute(refused.value.hint)
    assert len(migrate(url)) == len(migrations())
    assert migrate(url) == []


def test_a_role_without_rights_on_an_existing_schema_is_told_the_statement_that_fixes_it(
    database: Database, folder: Path
):
    number = migrations()[-1].number + 1
    (folder / f"{number:04d}_more.sql").write_text("CREATE TABLE pgvector_sync.more (id int);")
    with synced.role(database, "stranger") as stranger:
        url = database.url_as(stranger)
        with pytest.raises(Refused, match=f"role {stranger} may not use the schema pgvector_sync"):
            migrate(url)
        with connect(url) as connection, pytest.raises(Refused, match="may not use the schema"):
            check_schema(connection)
        # enough to read, but not to upgrade
        database.execute(f"GRANT USAGE ON SCHEMA pgvector_sync TO {stranger}")
        database.execute(f"GRANT SELECT ON pgvector_sync.applied_migration TO {stranger}")
        assert migrate(url) == []
        with pytest.raises(Refused, match="may not use the schema") as refused:
            migrate(url, folder=folder)
        database.execute(refused.value.hint)
        assert [m.name for m in migrate(url, folder=folder)] == ["more"]


def test_the_extension_may_be_in_another_schema(bare_database: Database):
    bare_database.execute("CREATE SCHEMA extensions")
    bare_database.execute("CREATE EXTENSION vector WITH SCHEMA extensions")
    assert len(migrate(bare_database.url)) == len(migrations())


def test_an_application_that_migrates_at_the_same_time_does_not_interfere(bare_database: Database):
    with bare_database.connect() as application:
        application.autocommit = False
        application.execute("CREATE TABLE docs (id int)")
        assert len(migrate(bare_database.url)) == len(migrations())
        application.commit()


def test_public_has_no_right_on_our_schema(database: Database):
    assert not database.value("SELECT has_schema_privilege('public', 'pgvector_sync', 'USAGE')")
    open_tables = database.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'pgvector_sync'::regnamespace AND relkind = 'r'"
        " AND has_table_privilege('public', oid, 'SELECT, INSERT, UPDATE, DELETE')"
    )
    assert open_tables == []
