"""How the text of a variable becomes a value, and what it must be."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, SecretStr

from pgvector_sync.settings.host_entries import read_entries

SHORTEST_TOKEN = 16
"""The minimum length of a token, in characters."""


def _seconds(value: object) -> object:
    """Reads a bare number as seconds; pydantic reads ISO 8601 (`PT2M`) and `00:02:00`."""
    if isinstance(value, str):
        try:
            return timedelta(seconds=float(value))
        except ValueError:
            return value
    return value


def _long_enough(value: timedelta) -> timedelta:
    # Postgres counts in milliseconds, where 0 means no limit
    if value < timedelta(milliseconds=1):
        raise ValueError("expected a duration of at least a millisecond")
    return value


def _hosts(value: str) -> str:
    for _ in read_entries(value):
        pass
    return value


def _absolute_paths(value: str) -> str:
    for place, path in enumerate(value.split(","), start=1):
        if path.strip() and not Path(path.strip()).is_absolute():
            raise ValueError(f"expected absolute paths separated by commas; entry {place} isn't one")
    return value


def _long_token(value: SecretStr) -> SecretStr:
    token = value.get_secret_value()
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(
            f"expected at least {SHORTEST_TOKEN} printable ASCII characters without spaces, "
            "such as the output of `openssl rand -hex 24`"
        )
    return value


Duration = Annotated[timedelta, BeforeValidator(_seconds), AfterValidator(_long_enough)]
Hosts = Annotated[str, AfterValidator(_hosts)]
"""Comma-separated hosts, as `host_entries.read_entries` reads them."""
AbsolutePaths = Annotated[str, AfterValidator(_absolute_paths)]
"""Comma-separated absolute paths."""
Token = Annotated[SecretStr, AfterValidator(_long_token)]
"""A secret that callers have to know."""
