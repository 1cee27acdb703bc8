from __future__ import annotations

import pytest

from support.beginnings import Beginning, default_source
from support.synced import Synced


def one_row(synced: Synced) -> None:
    """One pipeline, in sync with its one row."""
    default_source(synced)
    synced.filled("INSERT INTO docs VALUES (1, 'one')")


@pytest.fixture
def beginning() -> Beginning:
    return one_row


@pytest.fixture
def docs(beginning: Beginning, synced: Synced) -> Synced:
    return synced
