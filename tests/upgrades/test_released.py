"""Databases that a released program made: they are migrated, keep their data, and go on syncing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgvector_sync.database.statements import sql_folder
from pgvector_sync.store.migrations import migrate, migrations
from support.programs import dump, restore
from support.roles import OWNER
from support.servers import Database, Postgres, new_database
from support.synced import DOCS, Synced, continued

DUMPS = sorted((Path(__file__).parent / "dumps").glob("*.sql"))
"""One per release, written by `make freeze` with the program of that release."""
KEEP_AS = os.environ.get("PGVECTOR_SYNC_KEEP_DUMP")
"""Where `make freeze` wants the dump that this program makes; read before the tests' environment is cleaned."""
THIS_PROGRAM = "this_program"


@pytest.fixture
def elsewhere(postgres: Postgres) -> Iterator[Database]:
    """An empty database of the same server."""
    with new_database(postgres) as database:
        yield database


def made_by_this_program(synced: Synced, file: Path) -> Path:
    """A dump with vectors, a dead letter, a change in the outbox, one in work, and runs that have ended."""
    synced.run(DOCS, "INSERT INTO docs SELECT n, 'text ' || n FROM generate_series(1, 6) n")
    synced.pipeline()
    synced.endpoint.fail(status=400, code="content_filter", marker="poison")
    synced.run("INSERT INTO docs VALUES (7, 'poison')")
    synced.settle()
    synced.endpoint.heal()
    synced.run("UPDATE docs SET body = 'waits in work' WHERE id = 1")
    synced.run("SELECT pgvector_sync.enqueue('docs', 2::bigint)")
    return dump(synced.database, file)


@pytest.mark.slow
@pytest.mark.parametrize("release", [THIS_PROGRAM, *DUMPS], ids=lambda it: it if isinstance(it, str) else it.stem)
def test_a_restored_dump_is_migrated_and_goes_on_syncing(
    synced: Synced, elsewhere: Database, tmp_path: Path, release: str | Path
) -> None:
    file = made_by_this_program(synced, tmp_path / "dump.sql") if isinstance(release, str) else release
    if isinstance(release, str) and KEEP_AS is not None:
        shutil.copy(file, KEEP_AS)
    synced.declare()
    restore(file, elsewhere)
    folder = Path(shutil.copytree(sql_folder() / "migrations", tmp_path / "migrations"))
    number = migrations()[-1].number + 1
    (folder / f"{number:04d}_next.sql").write_text(
        "ALTER TABLE pgvector_sync.pipeline ADD COLUMN next_option int;"
    )
    rows = elsewhere.execute("SELECT id, fingerprint, embedded_at FROM docs_embedding ORDER BY id")
    assert len(rows) == 6
    applied = migrate(elsewhere.url_as(OWNER), folder=folder)
    assert applied[-1].name == "next"
    assert elsewhere.execute("SELECT id, fingerprint, embedded_at FROM docs_embedding ORDER BY id") == rows
    with continued(synced, elsewhere) as there:
        there.apply()  # the endpoint has another address than when the dump was made
        before = there.paid()
        there.settle()
        assert there.dead() == [([7], "input_rejected")]
        assert there.paid() - before == 1, "only the changed row is paid for"
        there.run("UPDATE docs SET body = 'changed' WHERE id = 3", "DELETE FROM docs WHERE id = 7")
        there.sync()
        assert len(there.vectors()) == 6
