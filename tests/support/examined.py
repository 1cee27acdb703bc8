"""What `doctor` says of a database, and following its advice."""

from __future__ import annotations

from typing import Any

from pgvector_sync.observe.doctor import Check, examine
from pgvector_sync.settings import Settings
from support.servers import Database


def look(url: str, *, offline: bool = True, **settings: Any) -> list[Check]:
    return examine(Settings(DATABASE_URL=url, _env_file=None, **settings), offline=offline)


def errors(checks: list[Check]) -> list[Check]:
    return [check for check in checks if check.level == "error"]


def warnings(checks: list[Check]) -> list[Check]:
    return [check for check in checks if check.level == "warning"]


def the(name: str, checks: list[Check]) -> Check:
    """The worst that a check has said."""
    found = [check for check in checks if check.name == name]
    return max(found, key=lambda check: ("ok", "warning", "error").index(check.level))


def follow_advice(database: Database, url: str) -> list[str]:
    """Runs the statements of all errors, as an administrator, until none is left; returns the checks' names."""
    names: list[str] = []
    for _ in range(6):
        found = errors(look(url))
        if not found:
            return names
        for check in found:
            names.append(check.name)
            database.execute(check.advice or "")
    raise AssertionError(f"still not green: {errors(look(url))}")
