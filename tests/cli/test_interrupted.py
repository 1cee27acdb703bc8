"""Ctrl-C: a command cancels the runs that only it needs, and exits with 130."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

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
        **more,
    )


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("signal_number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_dry_run_is_cancelled(synced: Synced, signal_number: signal.Signals) -> None:
    with started("reconcile", "docs", "--dry-run") as command:
        eventually(lambda: synced.database.value(RUNS) == 1)
        command.send_signal(signal_number)
        assert command.wait(timeout=60) == 130
    assert synced.database.value(RUNS) == 0
    assert (
        synced.database.value("SELECT max(state) FROM pgvector_sync.run WHERE kind = 'reconcile'") == "cancelled"
    )


@pytest.mark.usefixtures("locked")
def test_a_repairing_run_continues_after_its_command_was_interrupted(synced: Synced) -> None:
    with started("reconcile", "docs", "--wait") as command:
        eventually(lambda: synced.database.value(RUNS) == 1)
        command.send_signal(signal.SIGINT)
        _, err = command.communicate(timeout=60)
        assert command.returncode == 130, err.decode()[-3000:]
    assert b"runs cancel" in err
    assert synced.database.value(RUNS) == 1


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        (b"\x03", 130),
        pytest.param(b"\x04", 1, marks=pytest.mark.slow),
        pytest.param(b"n\n", 1, marks=pytest.mark.slow),
    ],
)
def test_the_confirmation_prompt_of_apply_can_be_declined_or_interrupted(
    synced: Synced, typed: bytes, code: int
) -> None:
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
    while b"Continue?" not in said:
        said += os.read(controller, 1000)
    os.write(controller, typed)
    try:
        command.wait(timeout=15)
    except subprocess.TimeoutExpired:  # a signal just before a read is handled after it: press the key again
        os.write(controller, typed)
    assert command.wait(timeout=60) == code
    assert synced.names() == []
    os.close(controller)


@contextmanager
def interrupted_sync(synced: Synced, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """A `sync` that was interrupted while two batches of five rows wait for the provider, and has said so."""
    synced.run(DOCS, "INSERT INTO docs SELECT n, 'text ' || n FROM generate_series(1, 20) n")
    synced.declare()
    synced.apply()
    synced.endpoint.fail("hang")
    monkeypatch.setenv("PGVECTOR_SYNC_BULK_BATCH_SIZE", "5")
    with started("sync", "--concurrency", "2") as command:
        try:
            eventually(
                lambda: (
                    synced.database.value("SELECT count(*) FROM pgvector_sync.work WHERE lease IS NOT NULL") == 10
                )
            )
            eventually(lambda: synced.endpoint.calls.requests >= 2)
            command.send_signal(signal.SIGTERM)
            assert command.stderr is not None
            said = b""
            while b"finishing 2 batches in flight" not in said:
                line = command.stderr.readline()
                assert line, said.decode()
                said += line
            yield command
        finally:
            command.kill()


def test_an_interrupted_sync_stores_what_its_batches_in_flight_have_bought(
    synced: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    with interrupted_sync(synced, monkeypatch) as command:
        synced.endpoint.heal()
        assert command.wait(timeout=60) == 130
    assert len(synced.vectors()) == 10
    assert synced.endpoint.calls.answered == 2


def test_an_interrupted_sync_ends_at_once_when_it_is_interrupted_again(
    synced: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    with interrupted_sync(synced, monkeypatch) as command:
        command.send_signal(signal.SIGINT)
        assert command.wait(timeout=20) == 130
    assert synced.database.value("SELECT count(*) FROM pgvector_sync.lease WHERE lost_at IS NULL") == 0
    synced.endpoint.heal()
    synced.settle()
    synced.exact()


def _take_terminal() -> None:
    """Make the terminal the controlling one, so that Ctrl-C in it sends a signal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
