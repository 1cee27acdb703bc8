"""A database error is explained by its cause."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from pgvector_sync.database import connect
from pgvector_sync.database.explain import explain
from pgvector_sync.errors import Refused
from pgvector_sync.settings import load_settings
from pgvector_sync.store.migrations import check_schema
from support.servers import Database

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tables(database: Database) -> Database:
    with database.connect() as connection:
        connection.execute(
            "CREATE TABLE vectors (id int PRIMARY KEY, tenant int NOT NULL, n int CONSTRAINT small CHECK (n < 10))"
        )
        connection.execute("INSERT INTO vectors VALUES (1, 1, 1)")
    return database


@pytest.mark.parametrize(
    ("statement", "what", "advice"),
    [
        ("INSERT INTO vectors (id) VALUES (77)", "column tenant of public.vectors rejected a row (23502)", "SET DEFAULT"),
        ("INSERT INTO vectors VALUES (1, 77)", "constraint vectors_pkey of public.vectors rejected a row (23505)", "drop it"),
        ("INSERT INTO vectors VALUES (2, 1, 77)", "constraint small of public.vectors rejected a row (23514)", "can't satisfy it"),
        ("SELECT 77 / 0", "fails on a row (22012)", "dead-letters list"),
        ("SELECT missing FROM vectors", 'column "missing" does not exist (42703)', "doctor"),
        ("SELECT FROM missing", 'relation "missing" does not exist (42P01)', "migrate"),
        ("SET statement_timeout = 1; SELECT pg_sleep(1)", "cancelled (57014)", "statement_timeout"),
        ("BEGIN READ ONLY; DELETE FROM vectors", "read-only (25006)", "primary"),
        ("DO $$BEGIN RAISE 'row 77' USING ERRCODE = 'XX000'; END$$", "internal error of the server (XX000)", "log"),
        ("DO $$BEGIN RAISE 'row 77' USING ERRCODE = '53100'; END$$", "its disk is full (53100)", "free space"),
        ("DO $$BEGIN RAISE 'row 77' USING ERRCODE = '58000'; END$$", "rejected a statement (58000", "doctor"),
        ("DO $$BEGIN RAISE 'row 77' USING ERRCODE = 'P0001'; END$$", "P0001", "doctor"),
    ],
)  # fmt: skip
def test_each_class_has_its_own_explanation_and_quotes_no_row(
    tables: Database, statement: str, what: str, advice: str
) -> None:
    with tables.connect() as connection, pytest.raises(psycopg.Error) as caught:
        connection.execute(statement)
    said, told = explain(caught.value)
    assert what in said
    assert advice in told
    assert "77" not in said + told


def test_what_psycopg_itself_rejects_is_reported_as_our_bug(tables: Database) -> None:
    with tables.connect() as connection, pytest.raises(psycopg.Error) as caught:
        connection.execute("SELECT %s, %s", [1])
    assert "bug" in explain(caught.value)[1]


def test_a_command_prints_the_explanation(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise psycopg.ProgrammingError("a bug")

    monkeypatch.setattr("pgvector_sync.client.pipelines.read_status", fails)
    code, _, err = typed("status")
    assert code == 1
    assert "psycopg rejected a statement (ProgrammingError)" in err
    assert "dead-letters" not in err


def test_a_role_that_only_reads_is_told_the_grants_it_needs(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("CREATE ROLE looks_on LOGIN")
    try:
        url = database.url_as("looks_on")
        with connect(url) as reader, pytest.raises(Refused) as caught:
            check_schema(reader)
        hint = caught.value.hint or ""
        assert "TO looks_on" in hint.replace('"', "")
        with database.connect() as connection:
            connection.execute(hint)
        with connect(url) as reader:
            check_schema(reader)
    finally:
        with database.connect() as connection:
            connection.execute("DROP OWNED BY looks_on")
            connection.execute("DROP ROLE looks_on")


@pytest.mark.parametrize("given", ["5 minutes", "2x", "soon"])
def test_a_wrong_duration_is_refused_with_the_accepted_forms(
    given: str, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGVECTOR_SYNC_LEASE", given)
    load_settings.cache_clear()
    code, _, err = typed("status")
    assert code == 2
    assert "PGVECTOR_SYNC_LEASE: expected a duration: seconds (120, 0.05), ISO 8601 (PT2M)" in " ".join(
        err.split()
    )
