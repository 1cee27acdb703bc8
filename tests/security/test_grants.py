"""The privileges of a worker, a monitor and an application in our schema, with the grants of `sql/roles.sql`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgvector_sync.database.statements import sql_folder
from pgvector_sync.declare.apply import remove
from pgvector_sync.declare.file import load_config
from pgvector_sync.declare.planned import closed_sources
from pgvector_sync.declare.planning import make_plan
from pgvector_sync.errors import Refused
from pgvector_sync.model.request import Reembed
from pgvector_sync.observe.search import nearest
from pgvector_sync.observe.status import read_status, settled
from pgvector_sync.observe.waiting import find_run
from pgvector_sync.runs.requests import request_reembed
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import grants, runs
from pgvector_sync.store.migrations import migrate, migrations
from support.beginnings import begins_with, default_source
from support.examined import errors, look, the, warnings
from support.roles import APPLICATION, MONITOR, OWNER, WORKER, set_up_roles
from support.synced import Synced, runtime_of

DENIED = psycopg.errors.InsufficientPrivilege


def two_rows(synced: Synced) -> None:
    default_source(synced)
    synced.filled("INSERT INTO docs VALUES (1, 'one'), (2, 'two')")


beginning, docs = begins_with(two_rows)


@contextmanager
def logged_in(docs: Synced, role: str) -> Iterator[psycopg.Connection[Any]]:
    """A session of the role itself, so that `session_user` is the role."""
    with psycopg.connect(own_url(docs, role), autocommit=True) as connection:
        yield connection


def own_url(docs: Synced, role: str) -> str:
    docs.run(f"ALTER ROLE {role} PASSWORD 'secret'")
    parts = conninfo_to_dict(docs.database.url) | {"user": role, "password": "secret"}
    return make_conninfo("", **parts)


@contextmanager
def working_as(docs: Synced, role: str) -> Iterator[Runtime]:
    with runtime_of(own_url(docs, role), docs.runtime.embedder) as runtime:
        yield runtime


def test_the_file_grants_a_worker_all_it_needs_and_no_role_more(docs: Synced):
    with docs.runtime.database.transaction() as connection:
        assert grants.lacking(connection) == []
        assert grants.excess(connection) == []
        listed = {
            row["name"]
            for row in connection.execute(sql.SQL("SELECT DISTINCT name FROM ({}) AS s").format(grants._SPELLED))
        }
    there = "SELECT relname FROM pg_class WHERE relnamespace = 'pgvector_sync'::regnamespace AND relkind = 'r'"
    assert listed == {name for (name,) in docs.database.execute(there)}, "each table is listed in grants.needed"


def test_running_the_file_again_changes_nothing(docs: Synced):
    acls = """SELECT relname, relacl::text, ARRAY(SELECT attacl::text FROM pg_attribute WHERE attrelid = c.oid ORDER BY attnum)
              FROM pg_class c WHERE relnamespace = 'pgvector_sync'::regnamespace ORDER BY 1"""
    before = docs.database.execute(acls)
    set_up_roles(docs.database)
    assert docs.database.execute(acls) == before


ATTACKS = (
    "UPDATE pgvector_sync.pipeline SET text_sql = 'pg_read_file(''/etc/passwd'')'",
    "UPDATE pgvector_sync.pipeline SET where_sql = 'steal(body)'",
    "UPDATE pgvector_sync.pipeline SET target_table = 'accounts'",
    "UPDATE pgvector_sync.pipeline SET read_columns = '{id}'",
    "UPDATE pgvector_sync.pipeline SET model = 'expensive', tokens_per_day = NULL",
    "UPDATE pgvector_sync.provider SET base_url = 'http://127.0.0.1:8510', api_key_env = 'DATABASE_URL'",
    "UPDATE pgvector_sync.source SET table_name = 'accounts'",
    "INSERT INTO pgvector_sync.provider (name) VALUES ('mine')",
    "UPDATE pgvector_sync.applied_migration SET checksum = ''",
    "INSERT INTO pgvector_sync.run (pipeline_id, kind, requested_by) VALUES (1, 'reembed', 'postgres')",
    """UPDATE pgvector_sync.run SET options = '{"where": "steal(body)"}'""",
    "UPDATE pgvector_sync.run SET requested_by = 'postgres'",
    "CREATE TRIGGER t AFTER UPDATE ON pgvector_sync.pipeline FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE FUNCTION pgvector_sync.touch() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "ALTER TABLE docs DISABLE TRIGGER pgvector_sync_update",
    "UPDATE docs SET body = 'worse'",
    "TRUNCATE pgvector_sync.outbox",
    "CREATE TRIGGER t AFTER DELETE ON docs_embedding FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
)  # fmt: skip


def test_a_worker_decides_neither_what_is_embedded_nor_where_it_is_sent(docs: Synced):
    with docs.database.connect_as(WORKER) as worker:
        for attack in ATTACKS:
            with pytest.raises(DENIED):
                worker.execute(attack)


def test_a_monitor_reads_everything_and_writes_nothing(docs: Synced):
    tables = [name for (name,) in docs.database.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'pgvector_sync'::regnamespace AND relkind IN ('r', 'S')"
        " AND relname <> 'query_sample'"
    )]  # fmt: skip
    with docs.database.connect_as(MONITOR) as monitor:
        for table in tables:
            monitor.execute(f"SELECT * FROM pgvector_sync.{table}")
            for attack in ("DELETE FROM {}", "SELECT FROM {} FOR UPDATE"):
                with pytest.raises((DENIED, psycopg.errors.WrongObjectType)):
                    monitor.execute(attack.format(f"pgvector_sync.{table}"))
        with pytest.raises(DENIED):
            monitor.execute("SELECT pgvector_sync.enqueue('docs', 1::bigint)")
    with docs.acting_as(MONITOR) as runtime:
        assert [status.name for status in read_status(runtime.database, None)] == ["docs"]


def test_an_application_can_enqueue_single_rows_read_declarations_and_nothing_else(docs: Synced):
    tables = [name for (name,) in docs.database.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'pgvector_sync'::regnamespace AND relkind IN ('r', 'p', 'S')"
    )]  # fmt: skip
    declarations = {"applied_migration", "provider", "source", "pipeline", "learned"}
    assert declarations < set(tables)
    with docs.database.connect_as(APPLICATION) as application:
        application.execute("SELECT pgvector_sync.enqueue('docs', 1::bigint)")
        for table in declarations:
            application.execute(f"SELECT * FROM pgvector_sync.{table}")
            for attack in ("DELETE FROM {}", "SELECT FROM {} FOR UPDATE"):
                with pytest.raises(DENIED):
                    application.execute(attack.format(f"pgvector_sync.{table}"))
        for table in set(tables) - declarations:
            with pytest.raises(DENIED):
                application.execute(f"SELECT FROM pgvector_sync.{table}")
    assert docs.events() == [[1]]


def test_a_worker_may_use_a_later_target_without_another_grant(docs: Synced):
    docs.pipeline("notes", text=["note"])  # its worker embeds it, see `Synced.runtime`
    with docs.runtime.database.transaction() as connection:
        assert grants.lacking(connection) == []


def test_a_table_of_a_later_migration_is_granted_by_the_migration(docs: Synced, tmp_path: Path):
    folder = tmp_path / "migrations"
    shutil.copytree(sql_folder() / "migrations", folder)
    (folder / f"{migrations()[-1].number + 1:04d}_more.sql").write_text(
        "DROP TABLE pgvector_sync.drift; CREATE TABLE pgvector_sync.drift (id int);"
    )
    migrate(docs.database.url_as(OWNER), folder=folder)
    with docs.runtime.database.transaction() as connection:
        assert grants.lacking(connection) == []
        assert grants.excess(connection) == []
    with docs.database.connect_as(MONITOR) as monitor:
        monitor.execute("SELECT FROM pgvector_sync.drift")


def test_the_owner_runs_nothing_that_a_lesser_role_may_have_written(docs: Synced):
    """With the grants of a deployment without `sql/roles.sql`: all rights on all tables."""
    docs.run(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA pgvector_sync TO {WORKER}")
    with docs.database.connect_as(WORKER) as worker:
        worker.execute("UPDATE pgvector_sync.pipeline SET text_sql = 'current_setting(''data_directory'')'")
    found: list[Callable[[], object]] = [
        lambda: read_status(docs.owner.database, exact_text_limit=1000),
        lambda: nearest(docs.owner, "docs", "one", k=1),
    ]
    for ask in found:
        with pytest.raises(Refused, match=f"{WORKER} may change what this role would run") as refused:
            ask()
    assert "doctor" in (refused.value.hint or "")
    said = warnings(look(docs.database.url_as(WORKER)))
    assert {check.name for check in said} >= {"excess_grants"}
    for check in said:
        if check.name == "excess_grants":
            docs.run(check.advice or "")
    assert the("excess_grants", look(docs.database.url_as(WORKER))).level == "ok"
    docs.apply()  # the file says what the text is
    docs.settle()
    docs.exact()


def test_a_condition_that_a_worker_typed_is_not_run_by_the_owner(docs: Synced):
    docs.run(
        f"CREATE SCHEMA lair AUTHORIZATION {WORKER}",
        f"GRANT USAGE ON SCHEMA lair TO {OWNER}",
        "CREATE SEQUENCE lair.caught",
        f"GRANT ALL ON SEQUENCE lair.caught TO {OWNER}, {WORKER}",
    )
    with logged_in(docs, WORKER) as worker:
        worker.execute("CREATE FUNCTION lair.steal() RETURNS boolean LANGUAGE sql AS $$ SELECT true $$")
    with working_as(docs, WORKER) as mine:
        asked = request_reembed(mine.database, "docs", Reembed(where="lair.steal()")).run_id
    with docs.owner.database.transaction() as connection:
        assert runs.due_runs(connection) == []
    with working_as(docs, WORKER) as mine:
        docs.settle(runtime=mine)
        assert settled(mine.database, None)
    assert find_run(docs.runtime, asked).state == "finished"


def test_a_condition_that_the_owner_typed_is_run_by_a_worker(docs: Synced):
    with working_as(docs, OWNER) as owner:
        asked = request_reembed(owner.database, "docs", Reembed(where="id = 1")).run_id
    with working_as(docs, WORKER) as worker:
        docs.settle(runtime=worker)
    assert find_run(docs.runtime, asked).state == "finished"


def test_doctor_warns_of_a_superuser(docs: Synced):
    assert the("role", look(docs.database.url)).level == "warning"
    docs.run("ALTER FUNCTION pgvector_sync.insert_1 OWNER TO postgres")
    assert "superuser" in the("excess_grants", look(docs.database.url_as(OWNER))).seen


def test_doctor_warns_of_rights_on_the_whole_server(docs: Synced, role: Callable[..., str]) -> None:
    name = role("strong", f"GRANT {WORKER} TO {{role}}")
    docs.run(f"ALTER ROLE {name} CREATEROLE REPLICATION", f"GRANT pg_write_all_data TO {name}")
    found = the("role", look(docs.database.url_as(name)))
    assert found.level == "warning"
    assert "CREATEROLE, REPLICATION, pg_write_all_data" in found.seen
    docs.run(found.advice or "")
    assert the("role", look(docs.database.url_as(name))).level == "ok"
    assert the("excess_grants", look(docs.database.url_as(name))).level == "ok"


def test_doctor_warns_of_a_worker_that_may_change_its_sources(docs: Synced) -> None:
    assert the("excess_grants", look(docs.database.url_as(WORKER))).level == "ok"
    docs.run(f"GRANT UPDATE (note) ON docs TO {WORKER}")
    found = the("excess_grants", look(docs.database.url_as(WORKER)))
    assert (found.level, found.seen) == (
        "warning",
        f"{WORKER} may change the rows of public.docs; a worker only reads it",
    )
    docs.run(f"ALTER TABLE docs OWNER TO {WORKER}")
    assert f"{WORKER} owns public.docs" in the("excess_grants", look(docs.database.url_as(WORKER))).seen


def test_a_workers_role_cant_stop_a_pipeline_by_trying_to_remove_it(docs: Synced) -> None:
    with docs.acting_as(WORKER) as worker, pytest.raises(Refused, match=f"belongs to role {OWNER}") as refused:
        remove(worker.database, "docs", keep_vectors=False, say=print)
    assert f"run the command as {OWNER}" in str(refused.value.hint)
    docs.run("UPDATE docs SET body = 'uno' WHERE id = 1")
    docs.settle()
    docs.exact()


def test_doctor_doesnt_advise_a_monitor_to_get_a_workers_rights(docs: Synced) -> None:
    found = look(docs.database.url_as(MONITOR))
    assert [check for check in errors(found) if "GRANT" in (check.advice or "")] == []
    assert "like a monitor" in the("grants", found).seen
    assert {"source", "target", "capture"} <= {check.name for check in found if check.level == "ok"}


def test_doctor_doesnt_advise_an_application_to_get_a_workers_rights(docs: Synced) -> None:
    [found] = errors(look(docs.database.url_as(APPLICATION)))
    assert (found.name, "like an application" in found.seen) == ("grants", True)
    assert "GRANT" not in (found.advice or "")


@pytest.mark.parametrize(
    ("role", "words"),
    [
        (MONITOR, "pause docs"),
        (MONITOR, "reembed docs"),
        (MONITOR, "reconcile docs"),
        (MONITOR, "dead-letters requeue docs --all"),
        (MONITOR, "status --exact"),
        (APPLICATION, "status"),
    ],
)
def test_a_command_that_a_role_may_not_run_says_so_and_which_roles_there_are(
    docs: Synced, command_line: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, role: str, words: str
) -> None:  # fmt: skip
    monkeypatch.setenv("DATABASE_URL", docs.database.url_as(role))
    code, _, said = command_line(*words.split())
    assert code == 1
    assert said.startswith("error: permission denied for table ")
    assert "connect as the role that is meant for it" in said


def test_apply_names_the_grants_that_a_worker_lacks_on_a_source(docs: Synced) -> None:
    config = load_config(docs.file)
    with docs.acting_as(OWNER) as owner, owner.database.transaction(force_rollback=True) as connection:
        plan = make_plan(connection, config)
        assert closed_sources(connection, plan) == []
        docs.run(f"REVOKE SELECT ON docs FROM {WORKER}")
        [words] = closed_sources(connection, plan)
    docs.run(words.partition(": ")[2])
    with docs.acting_as(WORKER) as worker:
        docs.run("UPDATE docs SET body = 'uno' WHERE id = 1")
        docs.settle(runtime=worker)
    docs.exact()
