"""Whether a folder may be believed: it decides where the servers' data and passwords are, and which processes end.

`.pgvector-sync` is found in the current directory, where another user may have put it. It counts only if it and
what is in it belong to the user who runs the command, and no other user may write to it. Root is no exception: a
folder of another user would let that user choose what root starts, signals and removes.
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
"""Root's servers run as another user, who must get through."""
LARGEST_BYTES = 65_536


def make_folder(folder: Path) -> None:
    """Makes the folder where it isn't there, for its owner alone. Raises Refused where it can't be believed."""
    try:
        folder.mkdir(mode=ROOTS_FOLDER_MODE if os.geteuid() == 0 else FOLDER_MODE, exist_ok=True)
    except FileExistsError:
        pass  # it is something else: what follows says so
    except OSError as error:
        raise Refused(f"can't create {folder}: {error.strerror}", hint="go to a folder of your own") from error
    require_own(folder)


def require_own(folder: Path, *, owners: Collection[int] = ()) -> None:
    """Raises Refused unless the folder is ours (or of one of `owners`) and no other user may write to it.

    Raises FileNotFoundError where there is none.
    """
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        what = "is a link" if stat.S_ISLNK(status.st_mode) else "isn't a folder"
        raise Refused(f"{folder} {what}", hint=f"remove {folder}, and run this again")
    _require_owner(folder, status, owners or {os.geteuid()})


def read_own(folder: Path, name: str) -> str:
    """A file of the folder, both of them ours, of which neither can be exchanged meanwhile.

    Raises Refused, FileNotFoundError where there is no folder or no such file, and ValueError where it is no text.
    """
    require_own(folder)
    path = folder / name
    within = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _require_owner(folder, os.fstat(within), {os.geteuid()})
        # not blocking: it may be a pipe
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
        text = file.read(LARGEST_BYTES + 1)
    if len(text) > LARGEST_BYTES:
        raise ValueError("too long")
    return text.decode("utf-8")


def _require_owner(path: Path, status: os.stat_result, owners: Collection[int]) -> None:
    if status.st_uid not in owners:
        owner = name_of(status.st_uid)
        raise Refused(
            f"{path} belongs to another user, {owner}",
            hint=f"run this as {owner}, or remove it, or go to another folder",
        )
    if status.st_mode & 0o022:
        raise Refused(
            f"other users can write to {path}", hint=f"chmod go-w {path}, if only you have written to it"
        )


def name_of(uid: int) -> str:
    """A user's name, or the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
