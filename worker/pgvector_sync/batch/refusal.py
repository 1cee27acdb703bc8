"""Refusal: decide from the catalog, and by trying other rows, whether the target refuses one row or every row."""

from __future__ import annotations

from collections.abc import Collection
from hashlib import sha256

import numpy as np
import psycopg

from pgvector_sync.batch.claim import Batch
from pgvector_sync.database import LOCK_CONFLICT, limit_statements
from pgvector_sync.errors import DatabaseRefuses, SyncError
from pgvector_sync.model import Key, Passage
from pgvector_sync.runtime import Runtime
from pgvector_sync.runtime.cause import Cause, cause_of, sqlstate_of
from pgvector_sync.runtime.expression import fault_without_rows
from pgvector_sync.store import rows
from pgvector_sync.store.rows import Vector32
from pgvector_sync.store.target_table import Demand, demands
from pgvector_sync.store.trust import require_trusted

SUSPICIOUS_ROWS = 8
"""Number of rows that fail at the start of a batch before other rows of the source are tried."""
MIN_FAILED_ROWS = 3
"""Number of rows that have to fail alike before the target is at fault, unless catalog or SQLSTATE prove it."""


def safe_name(error: BaseException) -> str:
    """Our own message, the SQLSTATE or the exception's type, since other messages may quote the row (G13)."""
    if isinstance(error, SyncError):
        return str(error)
    return sqlstate_of(error) or type(error).__name__


def placeholder_vector(batch: Batch) -> Vector32:
    """A vector of length one, for a write that is rolled back."""
    vector: Vector32 = np.zeros(batch.pipeline.spec.dimensions, dtype=np.float32)
    vector[0] = 1.0
    return vector


def require_row_fault(runtime: Runtime, batch: Batch, error: BaseException, failed: Collection[Key]) -> None:
    """Raises if these rows aren't at fault: DatabaseRefuses if the target is, `error` itself if we are."""
    cause = cause_of(error)
    if cause is Cause.ROW and (fault := fault_without_rows(runtime, batch.shape)) is not None:
        raise fault
    if fails_for_every_row(runtime, batch, error, failed):
        if cause is Cause.OURSELVES:
            raise error
        raise _target_refuses(runtime, batch, error) from None


def fails_for_every_row(runtime: Runtime, batch: Batch, error: BaseException, failed: Collection[Key]) -> bool:
    """Whether rows that `failed` with `error`, with none written successfully, are typical of all rows."""
    cause = cause_of(error)
    if cause in (Cause.SCHEMA, Cause.OUTAGE):
        return True
    if cause is Cause.ROW and any(demand.certain for demand in _demands(runtime, batch)):
        return True
    others = _others(runtime, batch, failed)
    results = [_can_be_written(runtime, batch, key, safe_name(error)) for key in others]
    return True not in results and len(failed) + results.count(False) >= MIN_FAILED_ROWS


def _target_refuses(runtime: Runtime, batch: Batch, error: BaseException) -> DatabaseRefuses:
    """The error whose message `status` shows, with the causes that the catalog shows."""
    every = _demands(runtime, batch)
    label = batch.pipeline.target_label
    state = sqlstate_of(error)
    words = f"{label} refuses every write ({state})"
    likely = [demand for demand in every if demand.certain] or every
    if likely:
        words += ": " + "; ".join(demand.words for demand in likely[:3])
    return DatabaseRefuses(words, sqlstate=state, hint="see `pgvector-sync doctor`")


def _demands(runtime: Runtime, batch: Batch) -> list[Demand]:
    with runtime.database.transaction(read_only=True) as connection:
        return demands(connection, batch.pipeline)


def _others(runtime: Runtime, batch: Batch, failed: Collection[Key]) -> list[Key]:
    """A few other rows of the source."""
    limit = MIN_FAILED_ROWS + len(failed)
    with runtime.database.transaction(read_only=True) as connection:
        page = rows.page(connection, batch.shape, None, limit=limit, text_limit=runtime.settings.text_limit_bytes)
    return [key for key, _ in page if key not in failed][:MIN_FAILED_ROWS]


def _can_be_written(runtime: Runtime, batch: Batch, key: Key, name: str) -> bool | None:
    """Whether a row can be written, in a transaction that is rolled back.

    False if it fails with the error called `name`, None if it fails in another way or is locked.
    """
    written = [(Passage(key, 0, "", sha256(repr(key).encode()).digest()), placeholder_vector(batch))]
    try:
        with runtime.database.transaction(force_rollback=True) as connection:
            limit_statements(connection, runtime.settings.lock_timeout)
            require_trusted(connection, batch.pipeline)
            rows.remove(connection, batch.shape, [key])  # a new row: what refuses inserts may allow updates
            rows.write(connection, batch.shape, written)
            rows.trim(connection, batch.shape, [key])
    except (*LOCK_CONFLICT, psycopg.errors.QueryCanceled):
        return None
    except Exception as error:  # noqa: BLE001 - any error is compared
        return False if safe_name(error) == name else None
    return True
