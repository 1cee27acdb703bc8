"""After a dump and restore, a pipeline continues where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.watch.captured import captures_everything
from pgvector_sync.engine.watch import look_now
from support.programs import dump, restore
from support.servers import Database, Postgres, new_database
from support.synced import Synced, continued

DEFINITIONS = """
    SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t WHERE t.tgname LIKE 'pgvector\\_sync\\_%' AND t.tgparentid = 0
    UNION ALL SELECT pg_get_functiondef(p.oid) FROM pg_proc p
    WHERE p.pronamespace = 'pgvector_sync'::regnamespace AND p.prokind = 'f'
    ORDER BY 1
"""


@pytest.fixture
def elsewhere(postgres: Postgres) -> Iterator[Database]:
    """An empty database of the same server."""
    with new_database(postgres) as database:
        yield database


@pytest.mark.parametrize("form", ["docs.sql", "docs.custom"])
def test_a_dump_restores_what_it_dumped(docs: Synced, elsewhere: Database, tmp_path: Path, form: str):
    docs.run("UPDATE docs SET body = 'still waiting' WHERE id = 3")
    options = ("--format=custom",) if form.endswith("custom") else ()
    restore(dump(docs.database, tmp_path / form, *options), elsewhere)
    with continued(docs, elsewhere) as there:
        there.sync()
        captures_everything(there)


def test_a_dump_of_the_schema_alone_restores_the_triggers(docs: Synced, elsewhere: Database, tmp_path: Path):
    restore(dump(docs.database, tmp_path / "docs.sql", "--schema-only"), elsewhere)
    assert elsewhere.execute(DEFINITIONS) == docs.database.execute(DEFINITIONS)


def test_what_postgres_prints_of_triggers_and_functions_can_be_executed_again(docs: Synced):
    docs.run(
        "CREATE TABLE parts (id int, at date, body text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
        "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
    )
    docs.owns("parts", "parts_1")
    docs.pipeline("parts", source="parts", text={"sql": "body || at"}, capture_replicated=True)
    printed = [text for (text,) in docs.database.execute(DEFINITIONS)]
    assert len(printed) > 10
    with docs.database.connect() as connection, connection.transaction():
        for text in printed:
            connection.execute(text.replace("CREATE TRIGGER", "CREATE OR REPLACE TRIGGER").encode())
    assert docs.database.execute(DEFINITIONS) == [(text,) for text in printed]


def test_a_target_left_out_of_a_dump_stops_the_pipeline_until_apply_makes_it_again(
    docs: Synced, elsewhere: Database, tmp_path: Path
):
    restore(dump(docs.database, tmp_path / "docs.sql", "--exclude-table=docs_embedding"), elsewhere)
    with continued(docs, elsewhere) as there:
        look_now(there.runtime.database)
        reason = there.database.value("SELECT problem FROM pgvector_sync.pipeline")
        assert reason == "there is no table public.docs_embedding: run `pgvector-sync apply`"


def test_a_source_restored_without_our_schema_is_captured_after_apply(
    docs: Synced, elsewhere: Database, tmp_path: Path
):
    """What a dump with --exclude-schema leaves: no trigger, since their functions are not there."""
    dumped = dump(docs.database, tmp_path / "docs.sql", "--exclude-schema=pgvector_sync", "--section=pre-data",
                  "--section=data")  # fmt: skip
    restore(dumped, elsewhere)
    assert elsewhere.value("SELECT count(*) FROM docs") == 13


def test_the_applications_role_dumps_with_the_documented_grants(
    docs: Synced, role: Callable[..., str], tmp_path: Path
):
    app = role(
        "app",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
        "GRANT USAGE ON SCHEMA pgvector_sync TO {role}",
        "GRANT SELECT ON ALL TABLES IN SCHEMA pgvector_sync TO {role}",
        "GRANT SELECT ON ALL SEQUENCES IN SCHEMA pgvector_sync TO {role}",
    )
    dump(docs.database, tmp_path / "docs.sql", url=docs.database.url_as(app))
    assert "CREATE TRIGGER pgvector_sync_update" in (tmp_path / "docs.sql").read_text()
