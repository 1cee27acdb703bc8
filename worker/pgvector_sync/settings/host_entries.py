"""Reads PGVECTOR_SYNC_ALLOWED_HOSTS: `host` or `host:port`, with or without a scheme and `=VARIABLE`."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Narrow on purpose: it rejects what two parsers could read differently (a user before an @, a backslash, a host
# that isn't ASCII).
HOST = r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:(?P<port>\d{1,5}))?"
VARIABLE = r"[a-z_][a-z0-9_]*"
_ENTRY = re.compile(rf"((?P<scheme>https?)://)?{HOST}/?(=(?P<key>{VARIABLE}))?", re.ASCII | re.IGNORECASE)


def has_port(match: re.Match[str]) -> bool:
    """Whether the port, if there is one, is between 1 and 65535."""
    return 0 < int(match["port"] or 1) < 1 << 16


def read_entries(text: str) -> Iterator[re.Match[str]]:
    """Yields a match per entry. Raises ValueError with the position of the first entry that isn't valid; the entry
    isn't quoted, because it may contain a password.
    """
    for place, entry in enumerate(text.split(","), start=1):
        match = _ENTRY.fullmatch(entry.strip())
        if match and has_port(match):
            yield match
        elif entry.strip():
            raise ValueError(
                "expected host, host:port, http://host:port or host=VARIABLE, separated by commas; "
                f"entry {place} is none of these"
            )
