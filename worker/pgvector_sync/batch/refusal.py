"""Refusal: whether the target refuses one row or all of them, told apart by the catalog and by trying others."""

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

SEVERAL = 8
"""Rows that fail, one by one and the first of a batch, before it is asked whether any row would pass."""
FEW = 3
"""Rows that have to fail alike before the target is to blame, unless the catalog or the SQLSTATE says so."""


def name_of(error: BaseException) -> str:
    """SQLSTATE, our own words, or the exception's type: its message may quote the row (G13)."""
    if isinstance(error, SyncError):
        return str(error)
    return sqlstate_of(error) or type(error).__name__


def stand_in(batch: Batch) -> Vector32:
    """A vector of length one for a write that is rolled back."""
    vector: Vector32 = np.zeros(batch.pipeline.spec.dimensions, dtype=np.float32)
    vector[0] = 1.0
    return vector


def require_blame(runtime: Runtime, batch: Batch, error: BaseException, failed: Collection[Key]) -> None:
    """Raises where not these rows are to blame but the target (DatabaseRefuses), or ourselves (`error`)."""
    cause = cause_of(error)
    if cause is Cause.ROW and (fault := fault_without_rows(runtime, batch.shape)) is not None:
        raise fault
    if refused_as_a_whole(runtime, batch, error, failed):
        if cause is Cause.OURSELVES:
            raise error
        raise _target_refuses(runtime, batch, error) from None


def refused_as_a_whole(runtime: Runtime, batch: Batch, error: BaseException, failed: Collection[Key]) -> bool:
    """Whether rows that `failed` with `error`, with none that passed, say something about all rows."""
    cause = cause_of(error)
    if cause in (Cause.SCHEMA, Cause.OUTAGE):
        return True
    if cause is Cause.ROW and any(demand.certain for demand in _demands(runtime, batch)):
        return True
    others = _others(runtime, batch, failed)
    results = [_passes(runtime, batch, key, name_of(error)) for key in others]
    return True not in results and len(failed) + results.count(False) >= FEW


def _target_refuses(runtime: Runtime, batch: Batch, error: BaseException) -> DatabaseRefuses:
    """The reason that `status` shows, with what the catalog knows about it."""
    found = _demands(runtime, batch)
    label = batch.pipeline.target_label
    state = sqlstate_of(error)
    words = f"{label} refuses every write ({state})"
    known = [demand for demand in found if demand.certain] or found
    if known:
        words += ": " + "; ".join(demand.words for demand in known[:3])
    return DatabaseRefuses(words, sqlstate=state, hint="see `pgvector-sync doctor`")


def _demands(runtime: Runtime, batch: Batch) -> list[Demand]:
    with runtime.database.transaction(read_only=True) as connection:
        return demands(connection, batch.pipeline)


def _others(runtime: Runtime, batch: Batch, failed: Collection[Key]) -> list[Key]:
    """A few other rows of the source."""
    limit = FEW + len(failed)
    with runtime.database.transaction(read_only=True) as connection:
        page = rows.page(connection, batch.shape, None, limit=limit, text_limit=runtime.settings.text_limit_bytes)
    return [key for key, _ in page if key not in failed][:FEW]


def _passes(runtime: Runtime, batch: Batch, key: Key, name: str) -> bool | None:
    """Whether a row could be written, tried and rolled back; None where it can't be told."""
    written = [(Passage(key, 0, "", sha256(repr(key).encode()).digest()), stand_in(batch))]
    try:
        with runtime.database.transaction(force_rollback=True) as connection:
            limit_statements(connection, runtime.settings.lock_timeout)
            require_trusted(connection, batch.pipeline)
            rows.remove(connection, batch.shape, [key])  # as new: what refuses inserts may let updates pass
            rows.write(connection, batch.shape, written)
    except (*LOCK_CONFLICT, psycopg.errors.QueryCanceled):
        return None
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
        return False if name_of(error) == name else None
    return True
