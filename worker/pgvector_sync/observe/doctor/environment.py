"""The check `environment`: PGVECTOR_SYNC_ variables that aren't settings."""

from __future__ import annotations

from collections.abc import Iterator

from pgvector_sync.observe.finding import Finding, ok, warning
from pgvector_sync.settings import unknown_variables


def variables() -> Iterator[Finding]:
    unknown = unknown_variables()
    if unknown:
        yield warning(
            f"unknown variables: {', '.join(unknown)}",
            "unset or correct them; docs/configuration.md lists the names",
        )
    else:
        yield ok("every PGVECTOR_SYNC_ variable is a setting")
