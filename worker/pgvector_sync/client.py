"""What an application calls: each call opens a connection of its own and closes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from uuid import UUID

from pydantic import SecretStr

from pgvector_sync.database import Database
from pgvector_sync.errors import Refused
from pgvector_sync.model.request import Reconcile, Reembed
from pgvector_sync.runs.requests import request_reconcile, request_reembed
from pgvector_sync.runtime.bootstrap import open_database
from pgvector_sync.settings import load_settings
from pgvector_sync.store import pipelines
from pgvector_sync.store.canonical import canonical_key
from pgvector_sync.store.migrations import check_schema


def ask_for_reembed(
    database_url: str | None,
    pipeline: str,
    *,
    where: str | None,
    keys: Iterable[int | str | Sequence[int | str]] | None,
    stale_only: bool,
    force: bool,
    rows_per_second: float | None,
) -> int:
    if isinstance(keys, str):  # its letters would be taken for keys
        raise Refused("keys is a list of keys, not a string", hint=f"keys=[{keys!r}]")
    with _database(database_url) as database:
        given = None
        if keys is not None:
            with database.transaction(read_only=True) as connection:
                columns = pipelines.require_pipeline(connection, pipeline).source.key
            parts = (list(map(_plain, key if isinstance(key, list | tuple) else [key])) for key in keys)
            try:
                given = [canonical_key(key, columns) for key in parts]
            except (ValueError, ArithmeticError) as error:
                names = ", ".join(column.name for column in columns)
                raise Refused(f"a key is not one: {error}", hint=f"a key is ({names})") from None
        request = Reembed(where, keys is not None, stale_only, force, rows_per_second)
        return request_reembed(database, pipeline, request, keys=given).run_id


def ask_for_reconcile(database_url: str | None, pipeline: str, *, deep: bool, dry_run: bool) -> int:
    with _database(database_url) as database:
        return request_reconcile(database, pipeline, Reconcile(deep, dry_run)).run_id


def _plain(part: object) -> object:
    """As psycopg gives the values of key columns."""
    return str(part) if isinstance(part, UUID | date | Decimal) else part


@contextmanager
def _database(url: str | None) -> Iterator[Database]:
    settings = load_settings()
    if url is not None:
        settings = settings.model_copy(update={"database_url": SecretStr(url)})
    with open_database(settings, max_connections=1) as database:
        with database.transaction(read_only=True) as connection:
            check_schema(connection)
        yield database
