from __future__ import annotations

from support.beginnings import begins_with, default_source
from support.synced import Synced


def one_row(synced: Synced) -> None:
    """One pipeline, in sync with its one row."""
    default_source(synced)
    synced.filled("INSERT INTO docs VALUES (1, 'one')")


beginning, docs = begins_with(one_row)
