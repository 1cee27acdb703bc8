from __future__ import annotations

import pytest

from support.synced import DOCS, Synced


@pytest.fixture
def docs(synced: Synced) -> Synced:
    """One pipeline, in sync with its one row."""
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one')")
    synced.pipeline()
    return synced
