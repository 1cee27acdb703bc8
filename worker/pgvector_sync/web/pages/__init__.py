"""The status pages, and their JSON twins."""

from __future__ import annotations

from starlette.routing import BaseRoute

from pgvector_sync.database import Database
from pgvector_sync.settings import Settings


def routes(database: Database, settings: Settings) -> list[BaseRoute]:
    """Return the routes of the pages."""
    del database, settings
    return []
