"""What an advice about a pipeline's index is based on: its history, the server's settings, some of its vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import statement
from pgvector_sync.store.shape import Shape

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class History:
    """The oldest and the newest known state of a pipeline."""

    first_at: datetime | None
    """None if nothing was recorded yet."""
    last_at: datetime | None
    first_source_rows: int | None
    last_source_rows: int | None
    first_fresh_rows: int | None
    last_fresh_rows: int | None
    rows_per_second: float
    """The mean number of vectors that were stored."""

    @property
    def _days(self) -> float:
        return 0.0 if self.first_at is None or self.last_at is None else (self.last_at - self.first_at) / _DAY

    @property
    def growth_per_day(self) -> float | None:
        """New rows of the source per day; None if the history is shorter than a day."""
        return self._per_day(self.first_source_rows, self.last_source_rows)

    @property
    def churn_per_day(self) -> float | None:
        """Vectors per day that replaced others: those that were stored, less those that were added."""
        more = self._per_day(self.first_fresh_rows, self.last_fresh_rows)
        return None if more is None else max(0.0, self.rows_per_second * _DAY.total_seconds() - max(0.0, more))

    def _per_day(self, first: int | None, last: int | None) -> float | None:
        if first is None or last is None or self._days < 1:
            return None
        return (last - first) / self._days


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Settings of the server that matter for vector indexes. Sizes are bytes."""

    effective_cache_size: int
    maintenance_work_mem: int
    random_page_cost: float


def history(connection: Connection, pipeline_id: int) -> History:
    """Returns what is known of the time before. Without a beat, nothing is recorded."""
    return History(**one(connection, statement("index_facts.history"), {"pipeline_id": pipeline_id}))


def settings(connection: Connection) -> ServerSettings:
    """Returns the settings of this session."""
    return ServerSettings(**one(connection, statement("index_facts.settings")))


def sample(connection: Connection, shape: Shape, *, rows: int, limit: int) -> list[Any]:
    """Returns up to `limit` vectors.

    rows: those of the target. Blocks are chosen at random if there are many more.
    """
    percent = 100.0 if rows <= 4 * limit else max(100.0 * 4 * limit / rows, 0.01)
    params = {"model": shape.pipeline.spec.model, "percent": percent, "limit": limit}
    query = statement("index_facts.sample").format(target=shape.target)
    return [row["embedding"] for row in connection.execute(query, params)]


def is_out_of_line(connection: Connection, oid: int) -> bool:
    """Whether vectors are stored outside of the rows."""
    return bool(one(connection, statement("index_facts.out_of_line"), {"oid": oid})["out_of_line"])


def set_locally(connection: Connection, changed: Mapping[str, str]) -> None:
    """Changes settings until the end of the transaction, or of its part."""
    for name, value in changed.items():
        connection.execute(statement("index_facts.set_locally"), {"setting_name": name, "setting_value": value})
