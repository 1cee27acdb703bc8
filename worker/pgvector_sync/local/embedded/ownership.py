"""Whether a folder can be trusted. It determines the servers' data and passwords, and which processes are stopped.

`.pgvector-sync` is found in the current directory, where another user may have created it. It is trusted only if
it and its files belong to the user who runs the command and no other user can write to it. This includes root:
another user's folder would let that user choose what root starts, signals and removes.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Collection
from pathlib import Path

from pgvector_sync.errors import Refused

FOLDER_MODE = 0o700
ROOTS_FOLDER_MODE = 0o711
"""Root's servers run as another user, who must be able to traverse the folder."""
MAX_BYTES = 65_536


def make_folder(folder: Path) -> None:
    """Create the folder, accessible to its owner only, unless it exists. Raises Refused if it can't be trusted."""
    try:
        folder.mkdir(mode=ROOTS_FOLDER_MODE if os.geteuid() == 0 else FOLDER_MODE, exist_ok=True)
    except FileExistsError:
        pass  # not a folder: `require_own` reports it
    except OSError as error:
        raise Refused(
            f"can't create {folder}: {error.strerror}", hint="change to a folder that belongs to you"
        ) from error
    require_own(folder)


def require_own(folder: Path, *, owners: Collection[int] = ()) -> None:
    """Raise Refused unless the folder belongs to this user (or one of `owners`) and no other user can write to it.

    Raises FileNotFoundError if it doesn't exist.
    """
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        what = "is a link" if stat.S_ISLNK(status.st_mode) else "isn't a folder"
        raise Refused(f"{folder} {what}", hint=f"remove {folder} and run this again")
    _require_owner(folder, status, owners or {os.geteuid()})


def read_own(folder: Path, name: str) -> str:
    """Return the text of a file after checking that it and the folder belong to this user.

    Neither can be replaced between the check and the read. Raises Refused if the check fails, FileNotFoundError if
    the folder or the file is missing, and ValueError if the file is too long or isn't UTF-8.
    """
    require_own(folder)
    path = folder / name
    within = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _require_owner(folder, os.fstat(within), {os.geteuid()})
        # O_NONBLOCK, because it might be a pipe
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, dir_fd=within)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise Refused(f"can't read {path}: {error.strerror}", hint=f"remove {folder}") from error
    finally:
        os.close(within)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Refused(f"{path} isn't a file", hint=f"remove {folder}")
        _require_owner(path, status, {os.geteuid()})
        if status.st_mode & 0o077:
            raise Refused(f"other users can read {path}, which holds passwords", hint=f"chmod 600 {path}")
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise ValueError("too long")
    return text.decode("utf-8")


def _require_owner(path: Path, status: os.stat_result, owners: Collection[int]) -> None:
    if status.st_uid not in owners:
        owner = name_of(status.st_uid)
        raise Refused(
            f"{path} belongs to another user, {owner}",
            hint=f"run this as {owner}, remove {path}, or change to another folder",
        )
    if status.st_mode & 0o022:
        raise Refused(
            f"other users can write to {path}", hint=f"if nobody else has written to it: chmod go-w {path}"
        )


def name_of(uid: int) -> str:
    """Return a user's name, or the numeric id if there is no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
