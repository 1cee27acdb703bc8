"""A Ctrl-C at an unlucky moment."""

import os
import signal
import time
from datetime import timedelta

import pytest

from pgvector_sync.cli import interrupts
from pgvector_sync.cli.interrupts import Interrupts
from support.waiting import never


class Swallows:
    """Its finalizer runs when the signal comes: Python prints what is raised there, and goes on."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_ctrl_c_that_a_finalizer_swallows_is_raised_again(monkeypatch):
    monkeypatch.setattr(interrupts, "RAISE_AGAIN_AFTER", timedelta(seconds=0.05))

    def unlucky() -> None:
        with Interrupts():
            Swallows()
            time.sleep(10)  # noqa: TID251  # what is interrupted

    with pytest.raises(KeyboardInterrupt):
        unlucky()


def test_once_the_stopping_has_begun_nothing_is_raised_any_more(monkeypatch):
    monkeypatch.setattr(interrupts, "RAISE_AGAIN_AFTER", timedelta(seconds=0.05))
    with Interrupts() as caught:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        caught.ending()
        never(lambda: caught.hurried, 3 * interrupts.RAISE_AGAIN_AFTER.total_seconds())
        os.kill(os.getpid(), signal.SIGINT)
        assert caught.hurried
