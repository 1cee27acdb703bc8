"""Embedded servers started by root: they run as an ordinary user, and existing directories keep their mode."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgvector_sync.local import embedded
from pgvector_sync.local.embedded import account as accounts
from pgvector_sync.local.embedded.account import Account, locate
from support.embedded_folder import postgres_of, run, start, valkey_of
from support.waiting import eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as another user")


@pytest.fixture
def closed_folder(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that root's servers can't reach."""
    monkeypatch.setattr(accounts, "SYSTEM_FOLDER", project / "own")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    yield closed / ".pgvector-sync"
    embedded.stop(closed / ".pgvector-sync")


def test_root_runs_the_servers_as_an_ordinary_user(folder: Path) -> None:
    servers = start(folder)
    assert servers.home == folder / "servers"
    for server in (postgres_of(folder), valkey_of(folder)):
        owner = eventually(lambda server=server: Path(f"/proc/{server.pid}").stat().st_uid)
        assert owner == Account.for_servers().uid


def test_root_in_a_closed_folder(closed_folder: Path, project: Path) -> None:
    servers = start(closed_folder)
    assert servers.home.parent == project / "own"
    assert embedded.find(closed_folder) == servers
    run(servers.database_url, "CREATE TABLE kept AS SELECT 1 AS one")
    assert embedded.stop(closed_folder)
    assert start(closed_folder) == servers
    assert run(servers.database_url, "SELECT one FROM kept") == [(1,)]
    assert stat.S_IMODE(closed_folder.parent.stat().st_mode) == 0o700, "an existing directory keeps its mode"


def test_root_copies_programs_that_its_servers_cannot_reach(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "SYSTEM_FOLDER", project / "own")
    program = tmp_path / "a_wheel" / "bin" / "program"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o700)
    metadata = tmp_path / "a_wheel-1.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: a-wheel\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)

    copy = locate("a_wheel", "bin/program", Account.for_servers())
    assert copy.is_relative_to(project / "own")
    assert locate("a_wheel", "bin/program", Account.for_servers()) == copy
    assert stat.S_IMODE(program.stat().st_mode) == 0o700
