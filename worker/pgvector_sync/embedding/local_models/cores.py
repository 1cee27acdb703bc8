"""How many threads compute with a local model: the cores, divided among all that compute at the same time."""

from __future__ import annotations

import os

_callers = 1


def share_cores(callers: int) -> None:
    """Divide the cores among this many processes or threads, before they are started.

    A worker calls this in its parent process, so that each child inherits the number.
    """
    global _callers  # noqa: PLW0603 one number per process
    _callers = max(1, callers)


def threads_per_caller() -> int:
    """Return the number of threads for each process or thread that computes."""
    return max(1, _available_cores() // _callers)


def _available_cores() -> int:
    """Return the number of cores on which this process may run."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
