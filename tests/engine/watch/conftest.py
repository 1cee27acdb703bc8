from __future__ import annotations

from collections.abc import Callable

import pytest

from pgvector_sync.engine import watch
from pgvector_sync.observe.status import read_status
from support.beginnings import begins_with, default_source
from support.synced import Synced


def in_sync(synced: Synced) -> None:
    """A pipeline in sync. Rows enough that one orphan is not suspicious."""
    default_source(synced)
    synced.filled(
        "INSERT INTO docs VALUES (1, 'one', 'a'), (2, 'two', 'b'), (3, 'three', 'c')",
        "INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(101, 110) i",
    )


beginning, docs = begins_with(in_sync)


@pytest.fixture
def seen(synced: Synced) -> Callable[..., tuple[str, str | None]]:
    """Lets the watch look, and returns state and reason as `status` shows them."""

    def look(name: str = "docs") -> tuple[str, str | None]:
        watch.look_now(synced.owner.database)
        [status] = read_status(synced.runtime.database, name)
        return status.state.value, status.reason

    return look
