from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import synced as synced_module
from servers import Database
from synced import Synced


@pytest.fixture
def synced(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Synced]:
    with synced_module.open_synced(database, tmp_path, monkeypatch) as synced:
        yield synced


@pytest.fixture
def role(database: Database) -> Iterator[Callable[..., str]]:
    """Makes a role with grants, and takes it away again."""
    with ExitStack() as roles:
        yield lambda name, *grants: roles.enter_context(synced_module.role(database, name, *grants))
