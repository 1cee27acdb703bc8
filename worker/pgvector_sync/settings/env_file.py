"""Checks whether the `.env` in the current folder can be trusted.

It names the database, the hosts that may be called and the keys that are sent there. Like every program that reads
a `.env`, we trust the folder in which we are started, but not a file that any user could have put there.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pgvector_sync.errors import ConfigError

ENV_FILE = ".env"


def require_own_env_file() -> None:
    """Raises ConfigError if all users can write to `.env`, or another created it in a world-writable folder."""
    path = Path(ENV_FILE)
    try:
        status, folder = path.stat(), Path.cwd().stat()
    except OSError:
        return  # there is no file
    hint = f"remove it, or take ownership: chown {os.geteuid()} .env && chmod 600 .env"
    if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IWOTH:
        raise ConfigError("every user of this machine can write to it", where=ENV_FILE, hint=hint)
    if folder.st_mode & stat.S_IWOTH and status.st_uid not in (os.geteuid(), 0):
        raise ConfigError("another user created it, and this folder is world-writable", where=ENV_FILE, hint=hint)
