"""Builds the wheel, installs it in a new virtual environment, and migrates, applies and syncs from another folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from support.servers import Database

ROOT = Path(__file__).resolve().parents[2]

CONFIG = """
[pipelines.docs]
source = "public.docs"
text = ["body"]
provider = "local"
"""


@pytest.fixture(scope="session")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `bin` of a virtual environment with the wheel; it shares the dependencies of the tests."""
    home = tmp_path_factory.mktemp("venv")
    venv.create(home, with_pip=False, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    with_pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python")]
    subprocess.run(
        [*with_pip, "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", wheel],
        check=True,
        capture_output=True,
    )
    # .pth files in a folder added by a .pth file aren't read, so the editable install isn't found
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin"


def test_the_wheel_has_every_sql_file_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    sql = {path.relative_to(ROOT / "sql").as_posix() for path in (ROOT / "sql").rglob("*.sql")}
    assert sql
    assert {f"pgvector_sync/sql/{name}" for name in sql} <= names
    assert "pgvector_sync/py.typed" in names
    unexpected = {name for name in names if not name.startswith(("pgvector_sync/", "pgvector_sync-"))}
    assert unexpected == set()


@pytest.mark.slow
def test_the_command_imports_the_installed_wheel(clean: Path, tmp_path: Path) -> None:
    code = "import pgvector_sync.database.statements as s; print(s.__file__); print(s.sql_folder())"
    command = [clean / "python", "-I", "-c", code]  # ignores PYTHONPATH
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=True)
    module, folder = done.stdout.splitlines()
    ours = str(clean.parent.resolve())
    assert (module.startswith(ours), folder.startswith(ours)) == (True, True), "imported from the source tree"


@pytest.mark.slow
def test_the_wheel_migrates_applies_and_syncs_from_another_folder(
    bare_database: Database, clean: Path, tmp_path: Path
) -> None:
    pytest.importorskip("wordllama", reason="the local model is the extra `local`")
    bare_database.execute("CREATE TABLE docs (id bigint PRIMARY KEY, body text)")
    bare_database.execute(
        "INSERT INTO docs SELECT i, 'a text about number ' || i FROM generate_series(1, 40) AS i"
    )
    (tmp_path / "pgvector-sync.toml").write_text(CONFIG)
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {"DATABASE_URL": bare_database.url}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [clean / "pgvector-sync", *arguments],
            cwd=tmp_path,
            env=env,
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "applied 0001_initial" in run("migrate")
    assert "up to date" in run("migrate")
    assert "+ pipeline docs" in run("apply", "--dry-run")
    assert "applied" in run("apply", "--yes")
    assert "40 embedded" in run("sync", "--once")
    bare_database.execute("UPDATE docs SET body = 'changed' WHERE id <= 3")
    bare_database.execute("DELETE FROM docs WHERE id > 30")
    run("sync", "--once")
    [status] = json.loads(run("status", "--json", "--exact"))["pipelines"]
    assert status["name"] == "docs"
    assert (status["rows"], status["fresh"], status["waiting"], status["dead"]) == (30, 30, 0, 0)
    assert bare_database.value("SELECT count(*) FROM docs_embedding") == 30
