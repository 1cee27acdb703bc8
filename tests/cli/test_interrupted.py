"""Ctrl-C: what a command began for itself goes with it, and the exit code is 130."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator

import pytest

from support.synced import DOCS, Synced
from support.waiting import eventually

RUNS = "SELECT count(*) FROM pgvector_sync.run WHERE state = 'running'"


@pytest.fixture
def synced(synced: Synced, monkeypatch: pytest.MonkeyPatch) -> Synced:
    monkeypatch.setenv("DATABASE_URL", synced.database.url)
    return synced


@pytest.fixture
def locked(synced: Synced) -> Iterator[None]:
    """A reconciliation of `docs` makes no progress."""
    synced.run(DOCS, "INSERT INTO docs SELECT n, 'text ' || n FROM generate_series(1, 10) n")
    synced.pipeline()
    with synced.database.connect() as connection:
        connection.autocommit = False
        connection.execute("LOCK TABLE docs_embedding IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()


def started(*arguments: str, **more: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pgvector_sync", *arguments]
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=_hear_ctrl_c,  # noqa: PLW1509 - it only resets a signal, and the child execs at once
        **more,
    )


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_dry_run_that_is_interrupted_is_in_nobodys_way(synced: Synced, signal_number: signal.Signals) -> None:
    with started("reconcile", "docs", "--dry-run") as command:
        eventually(lambda: synced.database.value(RUNS) == 1)
        command.send_signal(signal_number)
        assert command.wait(timeout=60) == 130
    assert synced.database.value(RUNS) == 0
    assert (
        synced.database.value("SELECT max(state) FROM pgvector_sync.run WHERE kind = 'reconcile'") == "cancelled"
    )


@pytest.mark.usefixtures("locked")
def test_a_run_that_repairs_goes_on_without_the_command(synced: Synced) -> None:
    with started("reconcile", "docs", "--wait") as command:
        eventually(lambda: synced.database.value(RUNS) == 1)
        command.send_signal(signal.SIGINT)
        _, err = command.communicate(timeout=60)
        assert command.returncode == 130
    assert b"runs cancel" in err
    assert synced.database.value(RUNS) == 1


@pytest.mark.parametrize(("typed", "code"), [(b"\x03", 130), (b"\x04", 1), (b"n\n", 1)])
def test_the_question_of_apply_is_left_by_ctrl_c(synced: Synced, typed: bytes, code: int) -> None:
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one')")
    synced.declare()
    synced.plan()
    controller, terminal = pty.openpty()
    command = subprocess.Popen(
        [sys.executable, "-m", "pgvector_sync", "apply"],
        stdin=terminal, stdout=subprocess.PIPE, stderr=terminal, start_new_session=True,
        preexec_fn=_take_terminal,  # noqa: PLW1509 - an ioctl, and the child execs at once
    )  # fmt: skip
    os.close(terminal)
    said = b""
    while b"Go on?" not in said:
        said += os.read(controller, 1000)
    os.write(controller, typed)
    try:
        command.wait(timeout=15)
    except subprocess.TimeoutExpired:  # a signal just before a read is seen after it: a person presses again
        os.write(controller, typed)
    assert command.wait(timeout=60) == code
    assert synced.names() == []
    os.close(controller)


def _take_terminal() -> None:
    """So that Ctrl-C there is a signal here."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    _hear_ctrl_c()


def _hear_ctrl_c() -> None:
    """A child inherits that a signal is ignored, as for what a shell runs in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
