"""`make freeze`: freezes the migrations of this version, and keeps a dump of a database that it made."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import frozen

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    dump = ROOT / f"tests/upgrades/dumps/{version}.sql"
    dump.parent.mkdir(exist_ok=True)
    # of the older Postgres, so that every supported one can restore it
    command = [sys.executable, "-m", "pytest", "-q", "--postgres", "16", "tests/upgrades/test_released.py"]
    subprocess.run(
        [*command, "-k", "this_program"],
        cwd=ROOT,
        check=True,
        env=os.environ | {"PGVECTOR_SYNC_KEEP_DUMP": str(dump)},
    )
    if not dump.exists():
        raise SystemExit("the test has kept no dump")
    frozen.freeze(version)
    print(f"froze {version}: commit sql/released.toml and {dump.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
