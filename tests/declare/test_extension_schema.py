"""pgvector in its own schema that isn't on the search_path, as on some managed services."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgvector_sync.runtime.bootstrap import Embedders
from pgvector_sync.store.migrations import migrate
from support import synced as with_endpoint
from support.endpoint import Endpoint
from support.roles import GRANTS_OF_SOURCES, OWNER, set_up_roles
from support.servers import Database
from support.synced import DOCS


@pytest.mark.parametrize("vector_type", ["vector", "halfvec"])
def test_everything_works_with_the_extension_off_the_search_path(
    bare_database: Database,
    shared: tuple[Endpoint, Embedders],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    vector_type: str,
):
    bare_database.execute("CREATE SCHEMA extensions")
    bare_database.execute("CREATE EXTENSION vector WITH SCHEMA extensions")
    set_up_roles(bare_database)
    migrate(bare_database.url_as(OWNER))
    set_up_roles(bare_database)
    bare_database.execute(GRANTS_OF_SOURCES)
    bare_database.execute("GRANT USAGE ON SCHEMA extensions TO PUBLIC")
    with with_endpoint.open_synced(bare_database, shared, tmp_path, monkeypatch) as synced:
        synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one'), (2, 'two')")
        synced.declare(vector_type=vector_type)
        synced.apply()
        synced.settle()
        synced.run("UPDATE docs SET body = 'uno' WHERE id = 1", "DELETE FROM docs WHERE id = 2")
        synced.settle()
        synced.covered()
        assert set(synced.vectors()) == {(1,)}
        if vector_type == "vector":  # a halfvec is rounded
            synced.exact()
