"""What a monitor sees: keys of rows in the columns that docs/security.md lists, no text, no vector, no row of a source."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pgvector_sync.model.request import Reconcile, Reembed
from pgvector_sync.observe.metrics.collector import exposition
from pgvector_sync.runs.requests import request_reconcile, request_reembed
from support.examined import look, the
from support.roles import MONITOR
from support.scraped import scrape
from support.shop import Role
from support.synced import TEXT_LIMIT, Synced

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
[_SENTENCE] = re.findall(r"keys of rows in(.*?)\.\s", PAGE.read_text("utf-8"), re.DOTALL)
LISTED = set(re.findall(r"`(\w+\.\w+)`", _SENTENCE))
"""The columns of ours that may hold a key, according to the docs."""
KEY, TEXT = "canary-of-a-key", "canary of a text"
TABLES = """
SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'pgvector_sync'::regnamespace AND c.relkind = 'r' AND c.relname <> 'query_sample'
"""


def holding(synced: Synced, words: str) -> set[str]:
    """The columns of our tables, as the monitor reads them, whose values contain the words."""
    with synced.database.connect_as(MONITOR) as monitor:
        return {
            f"{table}.{column}"
            for table, column in monitor.execute(TABLES).fetchall()
            if monitor.execute(
                f'SELECT FROM pgvector_sync.{table} WHERE "{column}"::text LIKE %s', (f"%{words}%",)
            ).fetchall()
        }


@pytest.fixture
def notes(synced: Synced) -> Synced:
    synced.run("CREATE TABLE docs (id text PRIMARY KEY, body text)")
    synced.pipeline()
    return synced


def test_keys_are_in_the_listed_columns_and_texts_in_none(notes: Synced):
    """A row passes through every place that may hold its key: an event, work, a dead letter, runs and their findings."""
    keys, texts = set[str](), set[str]()

    def look_everywhere() -> None:
        keys.update(holding(notes, KEY))
        texts.update(holding(notes, TEXT))

    too_long = TEXT * TEXT_LIMIT
    notes.run(f"INSERT INTO docs VALUES ('{KEY}', '{TEXT}'), ('{KEY}-2', '{too_long}')")
    look_everywhere()  # an event
    notes.settle()
    look_everywhere()  # a dead letter
    for asked in (Reembed(), Reembed(where=f"id = '{KEY}'")):
        request_reembed(notes.runtime.database, "docs", asked)
    request_reembed(notes.runtime.database, "docs", keys=[(KEY,)])
    look_everywhere()  # requests
    notes.settle()
    notes.run(f"DELETE FROM docs_embedding WHERE id = '{KEY}'")
    request_reconcile(notes.runtime.database, "docs", Reconcile(deep=True))
    notes.settle()
    look_everywhere()  # findings
    notes.run(f"INSERT INTO pgvector_sync.parked VALUES (1, '[[\"{KEY}\"]]', 'key_malformed')")
    look_everywhere()
    assert keys == LISTED
    assert texts == set()


def test_a_monitor_reads_no_row_of_a_source_and_no_vector(notes: Synced):
    for table in ("docs", "docs_embedding", "pgvector_sync.query_sample"):
        with notes.database.connect_as(MONITOR) as monitor, pytest.raises(psycopg.errors.InsufficientPrivilege):
            monitor.execute(f"SELECT * FROM {table}")


def test_doctor_tells_a_monitor_which_grant_shows_the_transactions_of_other_roles(notes: Synced):
    found = the("transactions", look(notes.database.url_as(MONITOR)))
    assert found.level == "ok"
    assert f'GRANT pg_read_all_stats TO "{MONITOR}";' in (found.advice or "")


def test_the_age_of_transactions_that_a_monitor_may_not_see_is_missing_rather_than_zero(notes: Synced, role: Role):
    """Every role sees how old snapshots are, counted in transactions."""
    sees_more = role("monitor", f"GRANT {MONITOR} TO {{role}}", "GRANT pg_read_all_stats TO {role}")
    with notes.database.connect() as other:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        for _ in range(3):
            notes.database.execute("SELECT pg_current_xact_id()")
        with notes.acting_as(MONITOR) as runtime:
            seen = scrape(runtime.database)
        with notes.acting_as(sees_more) as runtime:
            seen_by_more = scrape(runtime.database)
    assert seen.value("up") == seen_by_more.value("up") == 1
    assert seen.value("oldest_transaction_seconds") is None
    assert (seen_by_more.value("oldest_transaction_seconds") or 0) > 0
    assert (seen.value("oldest_xmin_transactions") or 0) >= 3


def test_a_monitor_scrapes_every_other_metric_and_no_key_or_text_is_among_them(notes: Synced):
    notes.run(f"INSERT INTO docs VALUES ('{KEY}', '{TEXT}'), ('{KEY}-2', '{TEXT * TEXT_LIMIT}')")
    notes.settle()
    request_reconcile(notes.runtime.database, "docs", Reconcile(deep=True))
    notes.settle()
    with notes.acting_as(MONITOR) as runtime:
        shown = exposition(runtime.database).decode()
    with notes.acting_as("postgres") as runtime:
        everything = exposition(runtime.database).decode()
    assert names_in(everything) - names_in(shown) == {"pgvector_sync_oldest_transaction_seconds"}
    assert KEY not in shown
    assert TEXT not in shown


def names_in(shown: str) -> set[str]:
    return {family.name for family in text_string_to_metric_families(shown)}
