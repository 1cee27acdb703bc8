"""Which Postgres and Redis a process uses: those in the environment, or else embedded ones.

The choice is written to the environment, where the settings and child processes find it.
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
    """The servers in use."""

    own: tuple[str, ...]
    """The names of the variables that the user has set."""
    embedded: dict[str, str]
    """The names and values of the variables that point to embedded servers."""
    folder: Path | None = None
    """The folder of the embedded servers; None if there are none."""


def use_running() -> Path | None:
    """Use the embedded servers of this folder if they run; returns their folder. Replaces DATABASE_URL."""
    servers = embedded.find(Path(embedded.FOLDER))
    if servers is None:
        return None
    exports = {"DATABASE_URL": servers.database_url}
    if load_settings().redis_url is None:
        exports["REDIS_URL"] = servers.redis_url
    _export(exports)
    return servers.folder


def use_own_or_start(running: Up) -> Servers:
    """Use the servers in the environment, and start embedded ones in place of missing ones. Raises Refused."""
    settings = load_settings()
    own = {}
    if settings.database_url is not None:
        own["DATABASE_URL"] = settings.database()
    if settings.redis_url is not None:
        own["REDIS_URL"] = settings.redis()
    os.environ.update(own)  # a child may look for `.env` in another folder
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
