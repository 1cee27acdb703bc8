"""A search looks at as much of the index as the last measurement of recall has found to be enough."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pgvector_sync.store import search
from pgvector_sync.store.pipelines import require_pipeline
from pgvector_sync.store.search import Wanted
from support.client import sync_as
from support.roles import APPLICATION
from support.synced import DOCS, Synced

PAGE = Path(__file__).parents[2] / "docs" / "search.md"


@pytest.fixture
def docs(synced: Synced) -> Synced:
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one')")
    synced.pipeline()
    return synced


def settings(docs: Synced, limit: int, *before: str) -> tuple[str, str | None]:
    """`hnsw.ef_search` and `ivfflat.probes` of a search for so many rows."""
    current = "SELECT current_setting('hnsw.ef_search') AS ef, current_setting('ivfflat.probes', true) AS probes"
    with docs.runtime.database.transaction() as connection:
        connection.execute("SELECT '[1]'::public.vector")
        for statement in before:
            connection.execute(statement)
        search.prepare(connection, require_pipeline(connection, "docs"), Wanted(limit))
        row = connection.execute(current).fetchone()
    assert row is not None
    return row["ef"], row["probes"]


def test_without_a_measurement_pgvectors_defaults_are_used(docs: Synced) -> None:
    assert settings(docs, 5) == ("40", "1")
    assert settings(docs, 100) == ("200", "1")


def test_the_measured_setting_is_used_unless_a_larger_one_is_needed_or_set(docs: Synced) -> None:
    docs.run("UPDATE pgvector_sync.pipeline SET ef_search = 120, probes = 8")
    assert settings(docs, 5) == ("120", "8")
    assert settings(docs, 100) == ("200", "8")
    assert settings(docs, 5, "SET LOCAL hnsw.ef_search = 300", "SET LOCAL ivfflat.probes = 20") == ("300", "20")
    docs.run("UPDATE pgvector_sync.pipeline SET ef_search = 20, probes = 1")
    assert settings(docs, 5) == ("40", "1"), "never less than by default"


def test_an_application_needs_no_further_grant(docs: Synced) -> None:
    docs.run(
        "UPDATE pgvector_sync.pipeline SET ef_search = 120, probes = 8",
        f"GRANT SELECT ON docs, docs_embedding TO {APPLICATION}",
    )
    with sync_as(docs.database, APPLICATION) as sync:
        assert len(sync.search("docs", "one")) == 1


def test_an_application_sets_the_same_in_sql_of_its_own(docs: Synced) -> None:
    docs.run("UPDATE pgvector_sync.pipeline SET ef_search = 120, probes = 8 WHERE name = 'docs'")
    [block] = re.findall(r"```sql\n(BEGIN;.*?COMMIT;)\n```", PAGE.read_text("utf-8"), re.DOTALL)
    _, loads, sets, _, _ = re.split(r";(?: *--.*)?\n", block.replace("'articles'", "'docs'"))
    docs.run(f"GRANT SELECT ON docs_embedding TO {APPLICATION}")
    with docs.database.connect_as(APPLICATION) as application, application.transaction():
        application.execute(loads)
        application.execute(sets)
        values = application.execute(
            "SELECT current_setting('hnsw.ef_search'), current_setting('ivfflat.probes')"
        ).fetchone()
    assert values == ("120", "8")
