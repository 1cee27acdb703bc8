"""A `.pgvector-sync` or `.env` of another Unix user is refused, and no field of ours can inject configuration.

Run as root the other user is a number without a name; run as a plain user, what only root can set up is left out.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pgvector_sync.errors import ConfigError, Refused
from pgvector_sync.local import embedded
from pgvector_sync.local.demo import Demo
from pgvector_sync.local.embedded.account import Account
from pgvector_sync.local.running import ProcessLock
from pgvector_sync.local.up import Up
from pgvector_sync.settings import load_settings
from support.embedded_folder import start, state_of
from support.processes import COMMAND

ANOTHER = 54_321
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
PASSWORD = "a" * 24


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that every user may write to, like /tmp."""
    project = Path(tempfile.mkdtemp(prefix="pgvector-sync-open-")).resolve()
    project.chmod(0o1777)
    monkeypatch.chdir(project)
    yield project
    shutil.rmtree(project)


@contextmanager
def as_another() -> Iterator[None]:
    """Runs the block as another user, with only that user's rights."""
    groups, mask = os.getgroups(), os.umask(0)
    os.setgroups([])
    os.setegid(ANOTHER)
    os.seteuid(ANOTHER)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
        os.umask(mask)


def plant(project: Path) -> None:
    """Puts a folder of the other user into ours."""
    with as_another():
        write(project / ".pgvector-sync", document())
        (project / ".pgvector-sync/demo").touch()
        (project / ".pgvector-sync").chmod(0o777)


def document(**changes: Any) -> dict[str, Any]:
    server = {"port": 5433, "password": PASSWORD}
    return {"home": "servers", "postgres": server, "valkey": server} | changes


def write(folder: Path, state: object, *, mode: int = 0o600) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "servers").mkdir(mode=0o700, exist_ok=True)
    (folder / "state.json").write_text(state if isinstance(state, str) else json.dumps(state))
    (folder / "state.json").chmod(mode)


USES: dict[str, Callable[[Path], object]] = {
    "find": embedded.find,
    "start": embedded.start,
    "stop": embedded.stop,
    "remove": embedded.remove,
    "up": lambda folder: Up(folder).lock(),
    "demo": lambda folder: Demo(folder).lock(),
}


@as_root
@pytest.mark.parametrize("use", USES)
def test_a_folder_of_another_user_is_refused_whatever_is_done_with_it(project: Path, use: str) -> None:
    plant(project)
    with pytest.raises(Refused, match="belongs to another user, uid 54321") as refused:
        USES[use](project / ".pgvector-sync")
    assert "remove" in (refused.value.hint or "")
    assert (project / ".pgvector-sync/state.json").exists(), "nor is it removed"


@as_root
@pytest.mark.parametrize(
    "command", [("status",), ("health",), ("up", "--yes"), ("search", "docs", "x"), ("doctor",)]
)
def test_no_command_uses_a_folder_of_another_user(
    project: Path, command_line: Callable[..., tuple[int, str, str]], command: tuple[str, ...]
) -> None:
    plant(project)
    code, out, err = command_line(*command)
    assert code in (1, 2)
    assert "belongs to another user" in out + err


@as_root
def test_a_file_of_another_user_in_our_folder_is_refused(project: Path) -> None:
    folder = project / ".pgvector-sync"
    write(folder, document())
    os.chown(folder / "state.json", ANOTHER, ANOTHER)
    with pytest.raises(Refused, match="belongs to another user"):
        embedded.find(folder)


@as_root
def test_servers_of_another_user_are_refused(project: Path) -> None:
    folder = project / ".pgvector-sync"
    write(folder, document())
    os.chown(folder / "servers", ANOTHER, ANOTHER)
    with pytest.raises(Refused, match="belongs to another user"):
        embedded.stop(folder)


@as_root
def test_a_pid_that_the_servers_account_has_written_ends_no_process_of_root() -> None:
    victim = subprocess.Popen(["sleep", "60"])
    try:
        Account(ANOTHER, ANOTHER).signal(victim.pid, 9)
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


@pytest.mark.parametrize("pid", ["0", "-1", "1", "-4711"])
def test_a_pid_file_names_one_process(tmp_path: Path, pid: str) -> None:
    running = ProcessLock(tmp_path / "x.running")
    held = running.acquire()
    assert held is not None
    running.path.write_text(pid)
    assert running.pid is None
    Account(os.geteuid(), os.getegid()).signal(int(pid), 9)  # we would be among those that it ends
    os.close(held)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_may_write_to_is_refused(project: Path, mode: int) -> None:
    folder = project / ".pgvector-sync"
    write(folder, document())
    folder.chmod(mode)
    with pytest.raises(Refused, match="other users can write to") as refused:
        embedded.find(folder)
    assert f"chmod go-w {folder}" in (refused.value.hint or "")


@pytest.mark.parametrize("mode", [0o622, 0o644, 0o640])
def test_passwords_that_others_may_read_or_write_are_refused(project: Path, mode: int) -> None:
    folder = project / ".pgvector-sync"
    write(folder, document(), mode=mode)
    with pytest.raises(Refused, match="other users can") as refused:
        embedded.find(folder)
    assert "chmod" in (refused.value.hint or "")


def test_links_are_not_followed(project: Path) -> None:
    elsewhere = project / "elsewhere"
    write(elsewhere, document())
    (project / "linked").symlink_to(elsewhere)
    with pytest.raises(Refused, match="is a link"):
        embedded.find(project / "linked")
    folder = project / ".pgvector-sync"
    folder.mkdir(mode=0o700)
    (folder / "state.json").symlink_to(elsewhere / "state.json")
    with pytest.raises(Refused, match="can't read"):
        embedded.find(folder)
    shutil.rmtree(elsewhere / "servers")
    (elsewhere / "servers").symlink_to(project)
    with pytest.raises(Refused, match="is a link"):
        embedded.find(elsewhere)


def test_a_named_pipe_is_refused_without_waiting_for_it(project: Path) -> None:
    folder = project / ".pgvector-sync"
    folder.mkdir(mode=0o700)
    os.mkfifo(folder / "state.json", 0o600)
    with pytest.raises(Refused, match="isn't a file"):
        embedded.find(folder)


WRONG: dict[str, object] = {
    "a line of configuration": document(valkey={"port": 1, "password": PASSWORD + "\nmodule-load /tmp/evil.so"}),
    "a line break at the end": document(valkey={"port": 1, "password": PASSWORD + "\n"}),
    "a space": document(valkey={"port": 1, "password": PASSWORD + " x"}),
    "a short password": document(postgres={"port": 1, "password": "x"}),
    "a password that is a number": document(postgres={"port": 1, "password": 10**24}),
    "a port that is text": document(postgres={"port": "5432\nx", "password": PASSWORD}),
    "a port out of range": document(postgres={"port": 65_536, "password": PASSWORD}),
    "a port that is negative": document(postgres={"port": -1, "password": PASSWORD}),
    "a port that is true": document(postgres={"port": True, "password": PASSWORD}),
    "another field": document(postgres={"port": 1, "password": PASSWORD, "package": "evil"}),
    "options": document(postgres={"port": 1, "password": PASSWORD, "options": {"shared_preload_libraries": "x"}}),
    "another server": document(evil={}),
    "a home elsewhere": document(home="/etc"),
    "a home above": document(home="../../etc"),
    "a home with a line break": document(home="servers\n"),
    "a home that is the folder": document(home="."),
    "a list": [],
    "nothing": "",
    "null": None,
    "nested deeply": "[" * 30_000,
    "too long": json.dumps(document()) + " " * 100_000 + "x",
    "not UTF-8": "\udcff",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_fields_that_we_have_not_written_are_refused(project: Path, wrong: str) -> None:
    folder = project / ".pgvector-sync"
    write(folder, document())
    state = WRONG[wrong]
    text = state if isinstance(state, str) else json.dumps(state)
    (folder / "state.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(Refused, match="is damaged") as refused:
        embedded.find(folder)
    assert f"remove {folder}" in (refused.value.hint or "")


def test_created_files_are_never_accessible_to_others(project: Path) -> None:
    project.chmod(0o755)
    folder = project / ".pgvector-sync"
    before = os.umask(0)
    try:
        start(folder)
        try:
            assert stat.S_IMODE(folder.stat().st_mode) == (0o711 if os.geteuid() == 0 else 0o700)
            assert stat.S_IMODE((folder / "state.json").stat().st_mode) == 0o600
            assert stat.S_IMODE((folder / "servers").stat().st_mode) == 0o700
            assert len(state_of(folder)["valkey"]["password"]) >= 32
        finally:
            embedded.stop(folder)
    finally:
        os.umask(before)


# -- .env ------------------------------------------------------------------------------------------------------

SETTING = "OPENAI_BASE_URL=https://evil.example/v1\n"


def refused_env() -> str:
    load_settings.cache_clear()
    try:
        with pytest.raises(ConfigError) as refused:
            load_settings()
    finally:
        load_settings.cache_clear()
    return str(refused.value)


@as_root
def test_an_env_file_that_another_user_has_put_into_an_open_folder_is_refused(project: Path) -> None:
    with as_another():
        (project / ".env").write_text(SETTING)
        (project / ".env").chmod(0o600)
    assert refused_env() == ".env: another user created it, and this folder is world-writable"
    done = subprocess.run([*COMMAND, "health"], cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "another user created it" in done.stdout


def test_an_env_file_that_every_user_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(SETTING)
    (tmp_path / ".env").chmod(0o666)
    assert "every user of this machine can write to it" in refused_env()


def test_an_env_file_of_our_own_is_read_even_in_an_open_folder(project: Path) -> None:
    (project / ".env").write_text(SETTING)
    load_settings.cache_clear()
    assert load_settings().openai_base_url == "https://evil.example/v1"
    load_settings.cache_clear()
