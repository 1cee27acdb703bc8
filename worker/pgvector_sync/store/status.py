"""What `status` shows per pipeline. Imports little, because `health` runs every few seconds."""

from __future__ import annotations

from typing import Any

import psycopg

from pgvector_sync.database.statements import statement


def pipelines(
    connection: psycopg.Connection[dict[str, Any]], name: str | None = None, *, limit: int
) -> list[dict[str, Any]]:
    """Returns one row per pipeline, or the row of one. Waiting rows are counted up to `limit`."""
    return connection.execute(statement("status.pipelines"), {"name": name, "limit": limit}).fetchall()
