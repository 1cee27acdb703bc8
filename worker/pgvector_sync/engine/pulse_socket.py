"""Where a process answers `pgvector-sync probe`, and how it is asked.

A Unix socket in a folder that only this user can enter: it needs no network, and tells at once whether a process
has died. Imports only what a probe needs, since imports are most of what a probe costs.
"""

from __future__ import annotations

import os
import stat

TIMEOUT_SECONDS = 2.0
"""How long a process may take to answer. A frozen one never does."""
LARGEST_ANSWER = 65_536
SUFFIX = ".sock"


def folder() -> str:
    """Return the folder of the sockets of this user's processes."""
    return f"{os.environ.get('TMPDIR') or '/tmp'}/pgvector-sync-{os.geteuid()}"  # noqa: S108  checked when used


def is_private(path: str) -> bool:
    """Whether a folder belongs to this user, and no other user can enter it."""
    found = os.lstat(path)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def sockets(role: str) -> list[str]:
    """Return the paths of the sockets of a role: `worker`, `beat` or `sync`."""
    place = folder()
    try:
        if not is_private(place):
            return []
        names = sorted(os.listdir(place))  # noqa: PTH208  pathlib alone takes as long as the answer
    except OSError:
        return []
    return [f"{place}/{name}" for name in names if name.startswith(f"{role}-") and name.endswith(SUFFIX)]


def ask(path: str) -> bytes:
    """Return what a process answers. Raises OSError, such as ConnectionRefusedError if it has ended."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(TIMEOUT_SECONDS)
        client.connect(path)
        answer = b""
        while len(answer) < LARGEST_ANSWER and (part := client.recv(LARGEST_ANSWER)):
            answer += part
    return answer
