"""Who runs: told by a lock on a file, which a process holds and its children inherit.

A pid can't tell: after a kill -9 or a reboot its number belongs to anybody. The lock ends with the last process
that holds it, however that ends.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path


class Running:
    """The lock on one file. The file holds the pid of whoever took it first."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def take(self) -> int | None:
        """The descriptor that holds the lock until it is closed; None where somebody else holds it.

        Raises OSError where the file can't be made.
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
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            finally:
                os.close(descriptor)
        return False

    @property
    def pid(self) -> int | None:
        """Of whoever took it, None where nobody holds it or the pid isn't written yet."""
        if self.is_held:
            with suppress(OSError, ValueError):
                pid = int(self.path.read_text())
                return pid if pid > 1 else None  # 0 and less are groups and everybody
        return None
