"""Freezes the migrations of a release, by their checksums in `sql/released.toml`: none may change any more."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pgvector_sync.store.migrations import Migration, migrations

ROOT = Path(__file__).resolve().parents[1]
RELEASED = ROOT / "sql/released.toml"
HEADER = """\
# The migrations of each release, by checksum. `make freeze` adds a release; nothing here is ever changed.
# A migration that was released isn't edited again: add another one.
"""
Releases = dict[str, dict[str, str]]


def read(file: Path = RELEASED) -> Releases:
    """Return the checksum of each migration, by release."""
    return tomllib.loads(file.read_text("utf-8")) if file.exists() else {}


def problems(releases: Releases, folder: Path | None = None) -> list[str]:
    """Say what differs from the released migrations in a folder (default: this program's)."""
    known = {_label(migration): migration.checksum for migration in migrations(folder)}
    found = []
    for release, frozen in releases.items():
        for label, checksum in frozen.items():
            if label not in known:
                found.append(f"{label} of release {release} is missing")
            elif known[label] != checksum:
                found.append(f"{label} was edited after release {release}: add another migration instead")
    newest = max((label for frozen in releases.values() for label in frozen), default="")
    late = sorted(label for label in known if label < newest and not any(label in f for f in releases.values()))
    found += [f"{label} comes before {newest}, which is released: give it a higher number" for label in late]
    return sorted(set(found))


def freeze(version: str, *, file: Path = RELEASED, folder: Path | None = None) -> None:
    """Add a release with all migrations of a folder. Raises SystemExit if it can't be added."""
    releases = read(file)
    if version in releases:
        raise SystemExit(f"release {version} is frozen already")
    if found := problems(releases, folder):
        raise SystemExit("\n".join(found))
    releases[version] = {_label(migration): migration.checksum for migration in migrations(folder)}
    file.write_text(HEADER + "".join(_section(*item) for item in releases.items()), "utf-8")


def _label(migration: Migration) -> str:
    return f"{migration.number:04d}_{migration.name}"


def _section(version: str, frozen: dict[str, str]) -> str:
    return f'\n["{version}"]\n' + "".join(f'{label} = "{checksum}"\n' for label, checksum in frozen.items())
