"""Variables that look like settings and are none."""

from __future__ import annotations

from collections.abc import Iterator

from pgvector_sync.observe.doctor.check import Finding, ok, warning
from pgvector_sync.settings import unknown_variables


def variables() -> Iterator[Finding]:
    unknown = unknown_variables()
    if unknown:
        yield warning(
            f"unknown variables: {', '.join(unknown)}", "unset them, or see docs/configuration.md for the names"
        )
    else:
        yield ok("every PGVECTOR_SYNC_ variable is a setting")
