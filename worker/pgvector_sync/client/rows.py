"""The methods of `Sync` that enqueue rows."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg

from pgvector_sync.client.keys import AnyKey, iterate_keys, json_parts
from pgvector_sync.client.opening import Opening
from pgvector_sync.errors import Refused
from pgvector_sync.store import outbox

ENQUEUE_REFUSALS = (
    psycopg.errors.UndefinedObject,
    psycopg.errors.WrongObjectType,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.DataError,
)
"""The errors that the function pgvector_sync.enqueue raises for an unknown pipeline or an invalid key."""


class RowMethods(Opening):
    """Inherited by `Sync`, which documents the errors that all methods raise."""

    def enqueue(self, pipeline: str, keys: Iterable[AnyKey]) -> int:
        """Have every pipeline of the source check rows again, as if they had changed; returns how many rows.

        pipeline: the name of any pipeline of the source.
        keys: the rows' keys, as for `reembed`.

        Needs only EXECUTE on the function pgvector_sync.enqueue and USAGE on its schema. To enqueue in a
        transaction of your own, call the function from SQL.
        """
        parts = [json_parts(key) for key in iterate_keys(keys)]
        with self._runtime(check_schema=False) as runtime:
            try:
                with runtime.database.transaction(durable=True) as connection:
                    outbox.enqueue(connection, pipeline, parts)
            except ENQUEUE_REFUSALS as error:
                raise Refused(str(error.diag.message_primary), hint=error.diag.message_hint) from None
        return len(parts)
