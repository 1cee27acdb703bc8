"""Whether a process is running: decided by a file lock that it holds and its children inherit.

A pid file can't tell, because after a kill -9 or a reboot the pid may belong to another process. The lock is
released when the last process that holds it ends, for whatever reason.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path


def is_locked(descriptor: int) -> bool:
    """Whether a process holds the lock of a file. Closes the descriptor, which was opened for this question."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class ProcessLock:
    """A lock on a file that contains the pid of the first process that acquired it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def acquire(self) -> int | None:
        """Return a descriptor that holds the lock until it is closed; None if another process holds the lock.

        Raises OSError if the file can't be created.
        """
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    @property
    def is_held(self) -> bool:
        with suppress(FileNotFoundError):
            return is_locked(os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
        return False

    @property
    def pid(self) -> int | None:
        """The pid in the file; None if the lock isn't held or the pid isn't written yet."""
        if self.is_held:
            with suppress(OSError, ValueError):
                pid = int(self.path.read_text())
                return pid if pid > 1 else None  # 0 and negative numbers would address groups of processes
        return None
