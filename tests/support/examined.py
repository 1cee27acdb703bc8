"""The findings of `doctor` about a database, and following its advice."""

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
    """The most severe finding of a check."""
    findings = [check for check in checks if check.name == name]
    return max(findings, key=lambda check: ("ok", "warning", "error").index(check.level))


def follow_advice(database: Database, url: str) -> list[str]:
    """Runs the advised statements as an administrator until no error is left; returns the names of the checks."""
    names: list[str] = []
    for _ in range(6):
        remaining = errors(look(url))
        if not remaining:
            return names
        for check in remaining:
            names.append(check.name)
            database.execute(check.advice or "")
    raise AssertionError(f"errors are left after following the advice: {errors(look(url))}")
