from __future__ import annotations

import pytest

from support.synced import Synced


@pytest.fixture
def docs(applied: None, synced: Synced) -> Synced:
    """One pipeline, in sync with its one row."""
    synced.filled("INSERT INTO docs VALUES (1, 'one')")
    return synced
