"""Every statement as Postgres sees it, composed for one pipeline, so that a change of its SQL shows in review.

Postgres is also asked whether it takes each with the types that sql/README.md gives its values.

PGVECTOR_SYNC_REWRITE_SNAPSHOT=1 pytest tests/store/test_composed.py       after a statement was changed
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pgvector_sync.database import begin, connect, register_vectors
from pgvector_sync.database import statements as loader
from pgvector_sync.store import catalog, drift, pipelines, rehearsal, trust
from store.statement_calls import CALLS, MINUTE, One
from support.synced import DOCS, Synced

SNAPSHOT = Path(__file__).with_name("statements.txt")
REWRITE = bool(os.environ.get("PGVECTOR_SYNC_REWRITE_SNAPSHOT"))  # read before the fixtures clear the environment
MARK = re.compile(r"/\* [a-z_]+\.[a-z_]+ \*/ ")
UNSTEADY = {
    re.compile(r"pgvector_sync_[0-9a-f]{16}"): "pgvector_sync_…",
    re.compile(r"'pgvector-sync [0-9a-f]{32}'"): "'pgvector-sync …'",
}
"""Random names, and digests."""
PLACEHOLDER = re.compile(r"(?<![{'])\{([a-z_]+)\}")
VALUE = re.compile(r"%\(([a-z_]+)\)[sbt]")
TYPE = re.compile(r"^\| `%\(([a-z_]+)\)[sb]` \| ([^|,]+)(?:, binary)? \|", re.MULTILINE)
OPTION_TYPES = """
    SELECT attname, atttypid::oid FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped
    AND attrelid IN ('pgvector_sync.pipeline'::regclass, 'pgvector_sync.provider'::regclass)
"""
"""The types of options' values, which are those of their columns."""


class Recording(psycopg.Cursor[Any]):
    """Keeps the text of every statement that it runs."""

    def execute(self, query: Any, params: Any = None, **more: Any) -> Any:
        if isinstance(query, sql.Composable):
            self.connection.texts.append(query.as_string(self.connection))  # type: ignore[attr-defined]
        return super().execute(query, params, **more)


@pytest.fixture
def marked() -> Iterator[None]:
    """Makes every statement begin with a comment with its name."""
    original = loader.statements

    def read(file: str) -> dict[str, str]:
        return {name: f"/* {file}.{name} */ {text}" for name, text in original(file).items()}

    def forget() -> None:
        for kept in (loader.statement, trust._query, drift._bound, drift._page, drift._judge, pipelines._all):
            kept.cache_clear()
        loader.forget_composed()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "statements", read)
        forget()
        yield
    forget()


def composed(synced: Synced) -> dict[str, list[str]]:
    """Returns the different texts of every composed statement, by name."""
    synced.run(DOCS)
    synced.declare(where="note <> 'draft'")
    synced.apply()
    connection = connect(synced.database.url)
    register_vectors(connection)
    connection.cursor_factory = Recording
    connection.texts = texts = []  # type: ignore[attr-defined]
    with connection:
        one = One(synced.shape(), catalog.find_table(connection, "public", "docs"))
        for call in CALLS:
            with begin(connection, lock_timeout=MINUTE, force_rollback=True):
                call(connection, one)
    for capture in (one.capture, replace(one.capture, replicated=False), replace(one.capture, partitioned=True)):
        texts += [each.as_string() for each in capture.statements()]
    found: dict[str, list[str]] = {}
    for text in texts:
        for each in re.split(r";\n(?=/\* )", text):  # several statements may be sent at once
            if mark := MARK.match(each):
                seen = found.setdefault(mark[0][3:-4], [])
                shown = MARK.sub("", each)
                for unsteady, steady in UNSTEADY.items():
                    shown = unsteady.sub(steady, shown)
                if shown not in seen:
                    seen.append(shown)
    return found


def shown(found: dict[str, list[str]]) -> dict[str, list[str]]:
    """Returns the texts of every statement, by name: as composed, or as in its file."""
    return {
        f"{file}.{name}": found.get(f"{file}.{name}", [MARK.sub("", text)])
        for file in loader.statement_files()
        for name, text in loader.statements(file).items()
    }


@pytest.mark.usefixtures("marked")
def test_every_statement_is_the_one_in_the_snapshot(synced: Synced) -> None:
    found = composed(synced)
    texts = shown(found)
    missing = [name for name in texts if name not in found and PLACEHOLDER.search("".join(texts[name]))]
    assert missing == [], "add a call that composes them to CALLS"
    lines = [line for name in texts for line in (f"-- {name}", *(f"{text};\n" for text in texts[name]))]
    printed = "\n".join(lines)
    if REWRITE:
        SNAPSHOT.write_text(printed, "utf-8")
    if not SNAPSHOT.exists():
        pytest.fail("there is no snapshot: run with PGVECTOR_SYNC_REWRITE_SNAPSHOT=1")
    assert printed == SNAPSHOT.read_text("utf-8"), "if this is meant: run with PGVECTOR_SYNC_REWRITE_SNAPSHOT=1"


@pytest.mark.usefixtures("marked")
def test_postgres_takes_every_statement_with_the_types_that_the_page_gives(synced: Synced) -> None:
    texts = shown(composed(synced))
    types = dict(TYPE.findall((loader.sql_folder() / "README.md").read_text("utf-8")))
    refused = []
    with connect(synced.database.url) as ours:
        rehearsal.create(ours, synced.shape())  # its statements need the table
    with psycopg.connect(synced.database.url, autocommit=True) as connection:
        oids = {
            name: connection.execute("SELECT to_regtype(%s)::oid", [type_]).fetchone()[0]  # type: ignore[index]
            for name, type_ in types.items()
        }
        assert [name for name, oid in oids.items() if oid is None] == []
        oids |= dict(connection.execute(OPTION_TYPES).fetchall())
        for place, text in [(place, text) for place, variants in texts.items() for text in variants]:
            if values := list(dict.fromkeys(VALUE.findall(text))):
                numbers = {value: f"${number}" for number, value in enumerate(values, start=1)}
                query = VALUE.sub(lambda found: numbers[found[1]], text).replace("%%", "%")  # noqa: B023
                result = connection.pgconn.prepare(b"", query.encode(), [oids[value] for value in values])
                if result.status != psycopg.pq.ExecStatus.COMMAND_OK:
                    refused.append((place, result.error_message.decode()))
    assert refused == []
