"""The schema watch's verdicts on all pipelines, read once per run of doctor."""

from __future__ import annotations

from pgvector_sync.database import Database
from pgvector_sync.engine import watch
from pgvector_sync.engine.watch import Verdict
from pgvector_sync.model import Pipeline


class Verdicts:
    """Reads the verdicts when the first check asks for one, since one reading covers all pipelines."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_id: dict[int, Verdict] | None = None

    def of(self, pipeline: Pipeline) -> Verdict | None:
        """Return the pipeline's verdict, or None while it is being removed."""
        if self._by_id is None:
            with self._database.transaction(read_only=True) as connection:
                self._by_id = {verdict.facts.id: verdict for verdict in watch.verdicts(connection)}
        return self._by_id.get(pipeline.id)
