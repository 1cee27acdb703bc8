"""The checks of `make release`: what is frozen stays as it is, and an archive with a fault isn't published."""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "release"))
import artefacts  # noqa: E402
import frozen  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the migrations, to add to or edit."""
    return Path(shutil.copytree(ROOT / "sql/migrations", tmp_path / "migrations"))


@pytest.fixture
def file(folder: Path, tmp_path: Path) -> Path:
    """The frozen migrations of one release."""
    file = tmp_path / "released.toml"
    frozen.freeze("0.1.0", file=file, folder=folder)
    return file


def test_no_migration_differs_from_its_release() -> None:
    assert frozen.problems(frozen.read()) == []


def test_an_edited_or_missing_migration_of_a_release_is_reported(file: Path, folder: Path) -> None:
    releases = frozen.read(file)
    assert frozen.problems(releases, folder) == []
    first, second, *_ = sorted(folder.glob("*.sql"))
    first.write_text(first.read_text() + "-- more\n")
    second.unlink()
    assert frozen.problems(releases, folder) == [
        "0001_initial was edited after release 0.1.0: add another migration instead",
        "0002_runs of release 0.1.0 is missing",
    ]


def test_the_next_release_adds_its_migrations_and_keeps_the_earlier_ones(file: Path, folder: Path) -> None:
    before = frozen.read(file)["0.1.0"]
    number = len(before) + 1
    (folder / f"{number:04d}_next.sql").write_text("SELECT 1;")
    assert frozen.problems(frozen.read(file), folder) == []
    frozen.freeze("0.2.0", file=file, folder=folder)
    assert frozen.read(file)["0.1.0"] == before
    assert frozen.read(file)["0.2.0"].keys() - before.keys() == {f"{number:04d}_next"}
    with pytest.raises(SystemExit, match=r"0\.2\.0 is frozen already"):
        frozen.freeze("0.2.0", file=file, folder=folder)


def test_a_migration_between_released_ones_is_reported(file: Path, folder: Path) -> None:
    (folder / "0000_early.sql").write_text("SELECT 1;")
    [problem] = frozen.problems(frozen.read(file), folder)
    assert problem.startswith("0000_early comes before ")


@pytest.mark.parametrize("version", ["0.1", "v0.1.0", "0.1.0.dev1", "0.1.0+local", "soon", "00.1.0"])
def test_a_version_that_can_not_be_released_is_reported(version: str) -> None:
    assert artefacts.version_problems(version) != []
    assert artefacts.version_problems("0.1.0") == artefacts.version_problems("1.12.3rc1") == []


@pytest.mark.parametrize(
    ("changelog", "problem"),
    [
        ("## Unreleased\n\n- a\n", "expected a section `## 0.1.0 (YYYY-MM-DD)`"),
        ("## Unreleased\n\n## 0.1.0\n\n- a\n", "expected `## 0.1.0 (YYYY-MM-DD)`, got `## 0.1.0`"),
        ("## Unreleased\n\n- b\n\n## 0.1.0 (2026-12-01)\n\n- a\n", "move the lines of Unreleased under 0.1.0"),
        (
            "## Unreleased\n\n## 0.1.0 (2026-12-01)\n\n## 0.0.9 (2026-01-01)\n\n- a\n",
            "the section of 0.1.0 is empty",
        ),
    ],
)
def test_a_changelog_that_is_not_ready_is_reported(changelog: str, problem: str) -> None:
    assert artefacts.changelog_problems(changelog, "0.1.0") == [f"CHANGELOG.md: {problem}"]


def test_a_changelog_with_a_dated_section_is_ready() -> None:
    ready = "# Changelog\n\n## Unreleased\n\n## 0.1.0 (2026-12-01)\n\n### Added\n\n- a\n"
    assert artefacts.changelog_problems(ready, "0.1.0") == []


def rewritten(wheel: Path, to: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """A copy of a wheel with changed contents."""
    with zipfile.ZipFile(wheel) as opened:
        contents = {name: opened.read(name) for name in opened.namelist()}
    change(contents)
    with zipfile.ZipFile(to / wheel.name, "w") as written:
        for name, content in contents.items():
            written.writestr(name, content)
    return to / wheel.name


INFO = "pgvector_sync-0.1.0.dist-info"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda it: it.pop("pgvector_sync/sql/migrations/0002_runs.sql"), "lacks pgvector_sync/sql/migrations/0002_runs.sql"),
        (lambda it: it.pop("pgvector_sync/py.typed"), "lacks pgvector_sync/py.typed"),
        (lambda it: it.update({"tests/conftest.py": b""}), "must not contain tests/conftest.py"),
        (lambda it: it.update({"pgvector_sync/.env": b"KEY=x"}), "must not contain pgvector_sync/.env"),
        (lambda it: it.pop(f"{INFO}/entry_points.txt"), "lacks the command pgvector-sync"),
        (
            lambda it: it.update({f"{INFO}/METADATA": it[f"{INFO}/METADATA"].replace(b"\nVersion: 0.1.0", b"\nVersion: 0.2.0")}),
            "expected pgvector-sync 0.1.0, got pgvector-sync 0.2.0",
        ),
        (
            lambda it: it.update({f"{INFO}/METADATA": it[f"{INFO}/METADATA"].replace(b">=3.11", b"three")}),
            "'three' is invalid for 'requires-python'",
        ),
    ],
)  # fmt: skip
def test_a_faulty_wheel_is_reported(
    wheel: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], None], problem: str
) -> None:
    assert artefacts.wheel_problems(wheel, root=ROOT, version="0.1.0") == []
    [said] = artefacts.wheel_problems(rewritten(wheel, tmp_path, change), root=ROOT, version="0.1.0")
    assert problem in said
