"""Reads by key stay look-ups while a target is too young for statistics, whatever its size."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pgvector_sync.database import begin
from pgvector_sync.model import Key
from pgvector_sync.store import rows
from support.explained import Explained
from support.synced import DOCS, Synced

BATCH = 256


@pytest.mark.parametrize("stored", [3_000, 20_000])
def test_a_batch_reads_only_its_own_rows_of_a_target_without_statistics(synced: Synced, stored: int) -> None:
    synced.run(DOCS, f"INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, {stored + BATCH}) AS i")
    synced.declare()
    synced.apply()
    synced.run(
        "ALTER TABLE docs_embedding SET (autovacuum_enabled = false)",
        "INSERT INTO docs_embedding SELECT i, 0, NULL, ARRAY[i, 1, 0, 0, 0, 0, 0, 0]::vector,"
        f" sha256(('text ' || i)::bytea), 'model', now() FROM generate_series(1, {stored}) AS i",
    )
    shape = synced.shape()
    keys: list[Key] = [(key,) for key in range(stored - BATCH // 2 + 1, stored + BATCH // 2 + 1)]
    explained = Explained(synced.database.url)
    with (
        explained as connection,
        begin(connection, lock_timeout=timedelta(minutes=1), by_key=True, force_rollback=True),
    ):
        explained.plans.clear()
        found = rows.look(connection, shape, keys, text_limit=1_000)
        rows.read(connection, shape, keys, text_limit=1_000)
    assert sum(look.stored_fingerprint is not None for look in found.values()) == BATCH // 2
    touched = [plan.touched("docs_embedding") for plan in explained.plans]
    assert max(touched) <= BATCH, touched
