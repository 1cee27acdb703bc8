"""What every verb needs: the database, the settings, and an embedder for a provider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pgvector_sync.embedding.embedder import Embedder
from pgvector_sync.model import Lane, Pipeline, Provider
from pgvector_sync.settings import Settings
from pgvector_sync.store.database import Database


@dataclass(frozen=True)
class Runtime:
    """Made by `bootstrap`, once a process, after the fork."""

    settings: Settings
    database: Database
    embedder: Callable[[Provider], Embedder]

    def batch_size(self, pipeline: Pipeline, lane: Lane) -> int:
        """Rows: the pipeline's own size, else the lane's default."""
        default = self.settings.live_batch_size if lane is Lane.LIVE else self.settings.bulk_batch_size
        return pipeline.batch_size or default
