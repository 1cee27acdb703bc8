"""Runs PostgreSQL's own programs: pg_dump, pg_restore, psql, pg_upgrade."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

from pgvector_sync.local.embedded.account import locate
from support.servers import PACKAGES, Database, Postgres


def folder(major: int) -> Path:
    """The folder of the programs of a major version."""
    spec = importlib.util.find_spec(PACKAGES[major])
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], "pginstall/bin")


def dump(database: Database, to: Path, *options: str, url: str | None = None) -> Path:
    """Runs the `pg_dump` of the server's own version, and returns the file."""
    run(folder(database.server.version) / "pg_dump", "--file", to, *options, url or database.url)
    return to


def restore(dumped: Path, into: Database, *options: str) -> None:
    """Restores a plain dump with `psql` and others with `pg_restore`; any error fails the test."""
    programs = folder(into.server.version)
    if dumped.suffix == ".sql":
        # of the server's version: a dump of 18 sets parameters that 16 doesn't know, and contains psql's \restrict lines
        run(programs / "psql", "--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", "--file", dumped, into.url)
    else:
        run(programs / "pg_restore", "--exit-on-error", "--dbname", into.url, *options, dumped)


def run(*command: str | Path) -> str:
    """Runs a command, which must succeed, and returns its stdout."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{Path(command[0]).name}: {done.stderr[-2000:]}"
    return done.stdout


def upgrade(old: Postgres, new: Postgres) -> None:
    """Runs `pg_upgrade` from one server's data to another server's version. Stops both, and starts `new` at the end.

    The data that `new` had before is deleted.
    """
    old.stop()
    new.stop(at_once=True)
    shutil.rmtree(new.data)
    programs = {
        server: locate(server.package, "pginstall/bin/initdb", server.account).parent for server in (old, new)
    }
    as_account(
        new, programs[new] / "initdb", "--pgdata", new.data, "--username=postgres", "--encoding=UTF8", "--locale=C",
        "--no-data-checksums", "--no-sync", "--auth=trust",
    )  # fmt: skip
    trusting = "local all all trust\nhost all all 127.0.0.1/32 trust\n"
    (old.data / "pg_hba.conf").write_text(trusting)
    as_account(
        new, programs[new] / "pg_upgrade", "--old-bindir", programs[old], "--new-bindir", programs[new],
        "--old-datadir", old.data, "--new-datadir", new.data, "--username=postgres", "--socketdir", new.home, "--no-sync",
    )  # fmt: skip
    (new.data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
    new.password = old.password  # pg_upgrade carries the roles over
    new.start()


def as_account(server: Postgres, *command: str | Path) -> None:
    """Runs a command as the server's account, since Postgres' own programs refuse to run as root."""
    done = server.account.run([str(word) for word in command], folder=server.home)
    assert done.returncode == 0, f"{Path(command[0]).name}: {done.stdout[-3000:]}{done.stderr[-1000:]}"
