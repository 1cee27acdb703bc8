"""A role that may only update the table of providers, and a worker whose environment decides what that can cause."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
from psycopg import sql

from pgvector_sync.engine.loop import Loop
from pgvector_sync.runtime import Runtime
from pgvector_sync.runtime.bootstrap import Embedders
from pgvector_sync.settings import Settings
from support.synced import Synced

GRANTS = (
    "GRANT USAGE ON SCHEMA pgvector_sync TO {role}",
    "GRANT SELECT, UPDATE ON pgvector_sync.provider TO {role}",
)
Write = Callable[..., None]


def writer(synced: Synced, attacker: str) -> Write:
    """Updates columns of the provider's row as the attacker, and gives a worker something to do."""

    def update(**columns: str | None) -> None:
        for column, value in columns.items():
            with psycopg.connect(synced.database.url_as(attacker)) as connection:
                query = sql.SQL("UPDATE pgvector_sync.provider SET {} = %s").format(sql.Identifier(column))
                connection.execute(query, [value])
        synced.run("INSERT INTO docs VALUES (1, 'text') ON CONFLICT (id) DO UPDATE SET body = docs.body || 'x'")

    return update


def works(
    synced: Synced,
    *,
    allowed: str = "http://127.0.0.1=TEST_KEY",
    base_url: str | None = None,
    ca_files: str = "",
) -> str:
    """Runs some turns of a worker in this environment, and returns the pipeline's reason."""
    settings = Settings(_env_file=None, allowed_hosts=allowed, openai_base_url=base_url, ca_files=ca_files)
    embedders = Embedders(settings)
    loop = Loop(Runtime(synced.runtime.settings, synced.runtime.database, embedders))
    try:
        for _ in range(3):
            loop.turn()
    finally:
        embedders.close()
    return str(synced.database.value("SELECT reason FROM pgvector_sync.pipeline") or "")
