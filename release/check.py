"""Builds wheel and source distribution and checks them, as `make release` and CI do. Exits 1 if anything is wrong.

python release/check.py                     what CI runs: nothing is published, nothing is left behind
python release/check.py --final --into dist what `make release` runs: the release must be ready as well
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import venv
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import artefacts
import frozen

from support.servers import new_database, running_postgres

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description="Build and check a release.")
    parser.add_argument("--final", action="store_true", help="also check that the release is ready to be tagged")
    parser.add_argument("--into", type=Path, help="keep the archives in this folder; default: a temporary one")
    options = parser.parse_args()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    found = artefacts.version_problems(version) + frozen.problems(frozen.read())
    if options.final:
        found += readiness_problems(version)
    finish(found)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.into or Path(scratch, "dist")
        wheel, sdist = build(folder)
        found = artefacts.wheel_problems(wheel, root=ROOT, version=version)
        found += artefacts.sdist_problems(sdist, version=version, tracked=tracked())
        found += installed_problems(wheel, Path(scratch), version)
        finish(found)
    print(f"pgvector-sync {version}: wheel and source distribution are in order")


def readiness_problems(version: str) -> list[str]:
    """What must be done before the commit is tagged."""
    found = artefacts.changelog_problems((ROOT / "CHANGELOG.md").read_text("utf-8"), version)
    if version not in frozen.read():
        found.append(f"sql/released.toml lacks {version}: run `make freeze`, and commit what it writes")
    if not (ROOT / f"tests/upgrades/dumps/{version}.sql").exists():
        found.append(f"there is no dump of {version} for the tests of later releases: run `make freeze`")
    if git("status", "--porcelain"):
        found.append("there are uncommitted changes")
    if git("tag", "--list", f"v{version}"):
        found.append(f"the tag v{version} exists already: set another version in pyproject.toml")
    return found


def build(folder: Path) -> tuple[Path, Path]:
    """Build both archives into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "hatchling", "build", "--directory", folder.resolve()]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def installed_problems(wheel: Path, scratch: Path, version: str) -> list[str]:
    """Install the wheel alone into an empty environment, and migrate a real database twice with it.

    Dependencies are those of this environment, which constraints.txt pins: installing them again would need a
    network and minutes. `make release` installs them for the bill of materials.
    """
    home = scratch / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", wheel], check=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    # .pth files in a folder added by a .pth file aren't read, so an editable install isn't found
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    found = []
    with running_postgres(18) as server, new_database(server) as database:
        for arguments, expected in (
            (["--version"], f"pgvector-sync {version}\n"),
            (["migrate"], "applied 0001_initial"),
            (["migrate"], "up to date"),
            (["status"], "no pipelines yet"),
        ):
            done = run(home / "bin/pgvector-sync", *arguments, folder=scratch, url=database.url)
            if done.returncode or expected not in done.stdout:
                said = (done.stdout + done.stderr)[-500:]
                found.append(f"{wheel.name}: `pgvector-sync {arguments[0]}`: expected {expected!r}, got {said!r}")
    return found


def run(command: Path, *arguments: str, folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command outside the source tree."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PGVECTOR_SYNC"))}
    return subprocess.run(
        [command, *arguments],
        cwd=folder,
        env=env | {"DATABASE_URL": url},
        text=True,
        capture_output=True,
        check=False,
    )


def tracked() -> set[str]:
    """The files that git tracks."""
    return set(git("ls-files").splitlines())


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def finish(found: list[str]) -> None:
    """Exit if anything is wrong."""
    if found:
        raise SystemExit("\n".join(f"error: {problem}" for problem in found))


if __name__ == "__main__":
    main()
