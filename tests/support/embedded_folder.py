"""A project folder with embedded servers, which tests start, query and kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg

from pgvector_sync.local import embedded
from pgvector_sync.local.embedded.account import Account
from support.servers import Postgres, Valkey


def start(folder: Path, **options: str) -> embedded.Embedded:
    return embedded.start(folder, durable=False, postgres_options=options)


def postgres_of(folder: Path) -> Postgres:
    """The folder's Postgres, as a server that a test can kill."""
    state = state_of(folder)
    return Postgres(folder / state["home"], Account.owner_of(folder / state["home"]), **state["postgres"])


def valkey_of(folder: Path) -> Valkey:
    state = state_of(folder)
    return Valkey(folder / state["home"], Account.owner_of(folder / state["home"]), **state["valkey"])


def state_of(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((folder / "state.json").read_text())
    return state


def run(url: str, statement: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []
