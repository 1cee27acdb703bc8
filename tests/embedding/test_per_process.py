from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pgvector_sync.embedding.per_process import PerProcess


def test_threads_create_the_value_once():
    made = []
    value = PerProcess(lambda: made.append(1) or object())
    with ThreadPoolExecutor(8) as pool:
        assert len({id(each) for each in pool.map(lambda _: value.get(), range(64))}) == 1
    assert len(made) == 1


def test_what_failed_is_tried_again():
    answers = iter([ValueError("no"), "yes"])

    def make():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    value = PerProcess(make)
    with pytest.raises(ValueError, match="no"):
        value.get()
    assert value.get() == "yes"
    assert value.pop() == "yes"
    assert value.pop() is None


def test_a_fork_while_the_value_is_being_made_leaves_no_lock_behind():
    parent, making, done = os.getpid(), threading.Event(), threading.Event()

    def make():
        if os.getpid() == parent:
            making.set()
            done.wait(30)
        return os.getpid()

    value = PerProcess(make)
    thread = threading.Thread(target=value.get)
    thread.start()
    assert making.wait(30)
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a child that hangs would outlive the tests
        os._exit(0 if value.get() == os.getpid() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    done.set()
    thread.join()
    assert value.get() == parent
