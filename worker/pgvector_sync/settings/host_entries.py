"""How PGVECTOR_SYNC_ALLOWED_HOSTS is written: `host` or `host:port`, with or without a scheme and `=VARIABLE`."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Narrow on purpose: what two parsers could read differently (a user before an @, a backslash, a host that
# isn't ASCII) is no host at all.
HOST = r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:(?P<port>\d{1,5}))?"
VARIABLE = r"[a-z_][a-z0-9_]*"
_ENTRY = re.compile(rf"((?P<scheme>https?)://)?{HOST}/?(=(?P<key>{VARIABLE}))?", re.ASCII | re.IGNORECASE)


def has_port(match: re.Match[str]) -> bool:
    """Whether the port, where there is one, is a number that ports have."""
    return 0 < int(match["port"] or 1) < 1 << 16


def read_entries(text: str) -> Iterator[re.Match[str]]:
    """Raises ValueError that names the first entry that can't be read by its place: it may hold a password."""
    for place, entry in enumerate(text.split(","), start=1):
        match = _ENTRY.fullmatch(entry.strip())
        if match and has_port(match):
            yield match
        elif entry.strip():
            raise ValueError(f"entry {place} isn't one of host, host:port, http://host:port and host=VARIABLE")
