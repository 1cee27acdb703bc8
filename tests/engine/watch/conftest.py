from __future__ import annotations

from collections.abc import Callable

import pytest

from pgvector_sync.engine import watch
from pgvector_sync.observe.status import read_status
from support.synced import DOCS, Synced


@pytest.fixture
def docs(synced: Synced) -> Synced:
    """A pipeline in sync. Rows enough that one orphan is not suspicious."""
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one', 'a'), (2, 'two', 'b'), (3, 'three', 'c')")
    synced.run("INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(101, 110) i")
    synced.pipeline()
    return synced


@pytest.fixture
def seen(synced: Synced) -> Callable[..., tuple[str, str | None]]:
    """Lets the watch look, and returns state and reason as `status` shows them."""

    def look(name: str = "docs") -> tuple[str, str | None]:
        watch.look_now(synced.owner.database)
        [status] = read_status(synced.runtime.database, name)
        return status.state.value, status.reason

    return look
