"""Composition root: creates the pool and the provider clients from the settings."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from dotenv import dotenv_values

from pgvector_sync.database import Database
from pgvector_sync.embedding.embedder import Embedder, open_embedder
from pgvector_sync.model import Provider
from pgvector_sync.runtime import Runtime
from pgvector_sync.settings import Settings, load_settings
from pgvector_sync.settings.env_file import ENV_FILE


def surroundings() -> dict[str, str]:
    """Return the environment, with what `.env` adds to it. Providers' keys are read from it."""
    return {name: value for name, value in dotenv_values(ENV_FILE).items() if value is not None} | dict(os.environ)


@dataclass
class Embedders:
    """One client per provider and process, opened when first needed. A changed provider gets a new client."""

    settings: Settings
    _open: dict[Provider, Embedder] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, provider: Provider) -> Embedder:
        with self._lock:
            if provider not in self._open:
                self._open[provider] = open_embedder(provider, self.settings, surroundings())
            return self._open[provider]

    def close(self) -> None:
        with self._lock:
            for embedder in self._open.values():
                embedder.close()
            self._open.clear()


def open_database(settings: Settings, *, max_connections: int = 4, working: bool = False) -> Database:
    """Return a pool for DATABASE_URL, which connects when first used. Raises ConfigError if it isn't set.

    `working` is for workers, whose statements are short. A statement without an answer is then given up, so that a
    batch that waits for one at its deadline still ends before its lease.
    """
    silence = settings.silence if working else None
    return Database(
        settings.database(), lock_timeout=settings.lock_timeout, max_connections=max_connections, silence=silence
    )


def open_build_database(settings: Settings) -> Database:
    """Return a pool for building indexes, which connects when first used. Raises ConfigError if it isn't valid."""
    return Database(settings.build_database(), lock_timeout=settings.lock_timeout, max_connections=2)


@contextmanager
def open_runtime(
    settings: Settings | None = None, *, max_connections: int = 4, working: bool = False
) -> Iterator[Runtime]:
    """Open a runtime for a command, and close it at the end."""
    settings = settings or load_settings()
    embedders = Embedders(settings)
    with open_database(settings, max_connections=max_connections, working=working) as database:
        try:
            yield Runtime(settings, database, embedders)
        finally:
            embedders.close()


_runtimes: dict[int, tuple[Runtime, Embedders]] = {}
_runtimes_lock = threading.Lock()
_batches = 1
OTHER_CONNECTIONS = 2
"""Connections of a worker process besides one per batch: for its leases, and to spare. The pool opens them when
needed."""


def expect_batches(count: int) -> None:
    """Make room in the pools of this process and its children for as many batches at once."""
    global _batches  # noqa: PLW0603 one number per process
    _batches = count


def process_runtime() -> Runtime:
    """Return the runtime of this worker process, created at its first use: pools don't survive a fork."""
    pid = os.getpid()
    with _runtimes_lock:
        if pid not in _runtimes:
            _runtimes.clear()  # inherited from the parent by the fork: must not be closed here
            settings = load_settings()
            embedders = Embedders(settings)
            database = open_database(settings, max_connections=_batches + OTHER_CONNECTIONS, working=True)
            _runtimes[pid] = (Runtime(settings, database, embedders), embedders)
        return _runtimes[pid][0]


def close_process_runtime() -> None:
    """Close the runtime of this worker process, if it has one."""
    with _runtimes_lock:
        opened = _runtimes.pop(os.getpid(), None)
    if opened is not None:
        runtime, embedders = opened
        runtime.database.close()
        embedders.close()
