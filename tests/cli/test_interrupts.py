"""Ctrl-C in a finalizer, and during the clean-up."""

import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from pgvector_sync.cli import interrupts
from pgvector_sync.cli.interrupts import Interrupts
from support.waiting import never

INTERRUPTED_IN_A_STRING = """
import os, signal, sys
leave = sys.exit

def interrupted(code):
    try:
        exec(f"import os; os.kill({os.getpid()}, {int(signal.SIGINT)})")
    except KeyboardInterrupt:
        leave(code)

sys.exit = interrupted
"""


class SwallowsInterrupt:
    """The signal arrives in its finalizer, where Python prints exceptions and continues."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_ctrl_c_swallowed_by_a_finalizer_is_raised_again(monkeypatch):
    monkeypatch.setattr(interrupts, "RAISE_AGAIN_AFTER", timedelta(seconds=0.05))

    def unlucky() -> None:
        with Interrupts():
            SwallowsInterrupt()
            time.sleep(10)  # noqa: TID251  # interrupted

    with pytest.raises(KeyboardInterrupt):
        unlucky()


def test_psycopg_does_not_complain_of_the_statement_that_was_interrupted() -> None:
    logger = logging.getLogger("psycopg.pool")
    with Interrupts():
        assert logger.isEnabledFor(logging.WARNING)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert not logger.isEnabledFor(logging.WARNING)
        assert logger.isEnabledFor(logging.ERROR)
    assert logger.isEnabledFor(logging.WARNING)


@pytest.mark.parametrize("interrupted", [False, True])
def test_psycopg_logs_no_more_after_a_command_than_before(interrupted: bool) -> None:
    """Its own level, WARNING: its pool writes three lines of the level INFO per statement."""
    logger = logging.getLogger("psycopg")
    assert logger.level == logging.WARNING
    with Interrupts(), suppress(KeyboardInterrupt):
        if interrupted:
            os.kill(os.getpid(), signal.SIGINT)
    assert logger.level == logging.WARNING


def test_signals_during_the_clean_up_do_not_raise(monkeypatch):
    monkeypatch.setattr(interrupts, "RAISE_AGAIN_AFTER", timedelta(seconds=0.05))
    with Interrupts() as caught:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        caught.ending()
        never(lambda: caught.hurried, 3 * interrupts.RAISE_AGAIN_AFTER.total_seconds())
        os.kill(os.getpid(), signal.SIGINT)
        assert caught.hurried


def test_the_module_exits_with_the_command_s_code_if_ctrl_c_arrived_while_python_executed_a_string(
    tmp_path: Path,
) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTED_IN_A_STRING)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [sys.executable, "-m", "pgvector_sync", "no-such-command"],
        env=environment,
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
