from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from proof.arena import Arena, open_arena
from support.servers import Database


@pytest.fixture
def arena(database: Database, tmp_path: Path) -> Iterator[Arena]:
    with open_arena(database, tmp_path) as arena:
        yield arena
