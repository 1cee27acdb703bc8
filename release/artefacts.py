"""Checks of wheel, source distribution and CHANGELOG before a release. Each returns what is wrong."""

from __future__ import annotations

import re
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from packaging.metadata import Metadata
from packaging.version import InvalidVersion, Version

NEVER = re.compile(
    r"(^|/)(\.env|\.venv|\.git|\.pgvector-sync|__pycache__|[^/]+\.pyc|celerybeat-schedule[^/]*)(/|$)"
)
"""What no archive may contain: secrets, caches and state of the machine that built it."""


def version_problems(version: str) -> list[str]:
    """A release has three numbers, or a suffix such as `rc1`."""
    try:
        parsed = Version(version)
    except InvalidVersion:
        return [f"expected a version such as 0.1.0, got {version}"]
    if str(parsed) != version or len(parsed.release) != 3 or parsed.local or parsed.dev is not None:
        return [f"expected a version such as 0.1.0 or 0.1.0rc1, got {version}"]
    return []


def changelog_problems(text: str, version: str) -> list[str]:
    """The section of the release exists once, has a date and isn't empty; nothing is left under "Unreleased"."""
    sections = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n?)*)", text, re.MULTILINE))
    headings = [heading for heading in sections if heading.split()[0] == version]
    if not headings:
        return [f"CHANGELOG.md: expected a section `## {version} (YYYY-MM-DD)`"]
    found = []
    if not re.fullmatch(rf"{re.escape(version)} \(\d{{4}}-[01]\d-[0-3]\d\)", headings[0]):
        found.append(f"CHANGELOG.md: expected `## {version} (YYYY-MM-DD)`, got `## {headings[0]}`")
    if not sections[headings[0]].strip():
        found.append(f"CHANGELOG.md: the section of {version} is empty")
    if sections.get("Unreleased", "").strip():
        found.append(f"CHANGELOG.md: move the lines of Unreleased under {version}")
    return found


def wheel_problems(wheel: Path, *, root: Path, version: str) -> list[str]:
    """The wheel has the package, all SQL and the licence, no tests, and metadata that PyPI accepts."""
    with zipfile.ZipFile(wheel) as opened:
        if (broken := opened.testzip()) is not None:
            return [f"{wheel.name}: {broken} is damaged"]
        names = set(opened.namelist())
        info = f"pgvector_sync-{version}.dist-info"
        metadata = opened.read(f"{info}/METADATA") if f"{info}/METADATA" in names else b""
        entry_points = opened.read(f"{info}/entry_points.txt") if f"{info}/entry_points.txt" in names else b""
    package = {
        "pgvector_sync/" + path.relative_to(root / "worker/pgvector_sync").as_posix()
        for path in (root / "worker/pgvector_sync").rglob("*")
        if path.is_file() and not NEVER.search(path.as_posix())
    }
    sql = {
        f"pgvector_sync/sql/{path.relative_to(root / 'sql').as_posix()}" for path in (root / "sql").rglob("*.sql")
    }
    wanted = package | sql | {f"{info}/licenses/LICENSE", f"{info}/licenses/NOTICE"}
    found = [f"{wheel.name}: lacks {name}" for name in sorted(wanted - names)]
    strangers = {name for name in names if not name.startswith(("pgvector_sync/", f"{info}/"))}
    found += [f"{wheel.name}: must not contain {name}" for name in sorted(strangers | _never(names))]
    if b"pgvector-sync = pgvector_sync.cli:main" not in entry_points:
        found.append(f"{wheel.name}: lacks the command pgvector-sync")
    return found + _metadata_problems(wheel.name, metadata, version)


def sdist_problems(sdist: Path, *, version: str, tracked: set[str]) -> list[str]:
    """The source distribution has, of the files that git tracks, those that are needed to build and test."""
    folder = f"pgvector_sync-{version}"
    with tarfile.open(sdist) as opened:
        members = opened.getmembers()
        packed = opened.extractfile(f"{folder}/PKG-INFO") if f"{folder}/PKG-INFO" in opened.getnames() else None
        metadata = packed.read() if packed else b""
    names = {PurePosixPath(member.name) for member in members if not member.isdir()}
    outside = [name for name in names if name.parts[0] != folder]
    inside = {name.relative_to(folder).as_posix() for name in names if name not in outside}
    wanted = {name for name in tracked if name.split("/")[0] in {"worker", "sql", "tests", "docs", "release"}}
    wanted |= {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "NOTICE", "Makefile", "constraints.txt"}
    found = [f"{sdist.name}: lacks {name}" for name in sorted(wanted - inside)]
    generated = {"PKG-INFO", ".gitignore"}
    strangers = (inside - tracked - generated) | _never(inside)
    found += [f"{sdist.name}: must not contain {name}" for name in sorted([*map(str, outside), *strangers])]
    return found + _metadata_problems(sdist.name, metadata, version)


def _never(names: set[str]) -> set[str]:
    return {name for name in names if NEVER.search(name)}


def _metadata_problems(where: str, raw: bytes, version: str) -> list[str]:
    try:
        metadata = Metadata.from_email(raw, validate=True)
    except ExceptionGroup as group:
        return [f"{where}: {error}" for error in group.exceptions]
    found = []
    if (metadata.name, str(metadata.version)) != ("pgvector-sync", version):
        found.append(f"{where}: expected pgvector-sync {version}, got {metadata.name} {metadata.version}")
    if metadata.description_content_type != "text/markdown" or not (metadata.description or "").strip():
        found.append(f"{where}: expected the README as a description in Markdown")
    if metadata.license_expression != "Apache-2.0":
        found.append(f"{where}: expected the licence Apache-2.0, got {metadata.license_expression}")
    if not metadata.requires_python or not metadata.requires_dist:
        found.append(f"{where}: lacks the supported Python or the dependencies")
    return found
