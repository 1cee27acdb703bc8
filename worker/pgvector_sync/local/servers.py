"""Which Postgres and Redis a process uses: the user's own where the environment names them, else embedded ones.

The choice is written to the environment, where settings and children find it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pgvector_sync.local import embedded
from pgvector_sync.local.up import Up
from pgvector_sync.settings import load_settings


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers that are used from now on."""

    own: tuple[str, ...]
    """Variables that the user has set."""
    embedded: dict[str, str]
    """Variables that lead to embedded servers, with their values."""
    folder: Path | None = None
    """Of the embedded servers."""


def use_running() -> Path | None:
    """Without a DATABASE_URL, use the embedded servers of the current folder if they run; returns their folder."""
    settings = load_settings()
    if settings.database_url is not None:
        return None
    found = embedded.find(Path(embedded.FOLDER))
    if found is None:
        return None
    exports = {"DATABASE_URL": found.database_url}
    if settings.redis_url is None:
        exports["REDIS_URL"] = found.redis_url
    _export(exports)
    return found.folder


def use_own_or_start(running: Up) -> Servers:
    """Use the user's own servers, and start embedded ones for those that there aren't. Raises Refused."""
    settings = load_settings()
    own = {}
    if settings.database_url is not None:
        own["DATABASE_URL"] = settings.database()
    if settings.redis_url is not None:
        own["REDIS_URL"] = settings.redis()
    os.environ.update(own)  # a child looks for `.env` in another folder
    if len(own) == 2:
        load_settings.cache_clear()
        return Servers(tuple(own), {})
    started = running.start_servers()
    urls = {"DATABASE_URL": started.database_url, "REDIS_URL": started.redis_url}
    exports = {name: url for name, url in urls.items() if name not in own}
    _export(exports)
    return Servers(tuple(own), exports, started.folder)


def _export(exports: dict[str, str]) -> None:
    if "DATABASE_URL" in exports:
        os.environ.update(embedded.ENVIRONMENT)
    os.environ.update(exports)
    load_settings.cache_clear()
