"""An application that calls us."""

from __future__ import annotations

from pgvector_sync import Settings, Sync
from support.servers import Database


def sync_as(database: Database, role: str) -> Sync:
    """The `Sync` of an application that connects as this role. `.env` isn't read."""
    return Sync(database.url_as(role), settings=Settings(_env_file=None))
