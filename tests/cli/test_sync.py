"""`sync --once` ends when waiting changes nothing any more."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from pgvector_sync.cli import sync
from pgvector_sync.cli.console import progress
from pgvector_sync.observe.status import read_status
from support.synced import DOCS, Synced


def test_it_ends_with_the_reason_once_the_provider_has_rejected_the_key(
    synced: Synced, typed: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one')")
    synced.pipeline()
    synced.run("INSERT INTO docs VALUES (2, 'two')")
    monkeypatch.setenv("TEST_KEY", "a-key-that-has-expired")
    started = time.monotonic()
    code, _, err = typed("sync", "--once", "--timeout", "60")
    assert time.monotonic() - started < 30
    assert code == 1
    assert "docs: 1 row still waits (misconfigured: " in err


def test_a_pipeline_that_was_misconfigured_before_is_tried_again(
    synced: Synced, typed: Callable[..., tuple[int, str, str]]
) -> None:
    synced.run(DOCS)
    synced.pipeline()
    synced.run("INSERT INTO docs VALUES (1, 'one')")
    synced.run(
        "UPDATE pgvector_sync.pipeline SET state = 'misconfigured', reason = 'an old one', "
        "retry_at = now() + interval '1 second'"
    )
    code, out, err = typed("sync", "--once", "--timeout", "60")
    assert code == 0, err
    assert "1 embedded" in out


def test_its_total_is_what_waits_and_what_a_backfill_has_yet_to_read(
    synced: Synced, typed: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    synced.run(DOCS)
    synced.pipeline()
    [status] = read_status(synced.runtime.database)
    totals: list[int | None] = []

    def noting(what: str, total: int | None) -> object:
        totals.append(total)
        return progress(what, total)

    monkeypatch.setattr(sync, "read_status", lambda *_: [replace(status, waiting=18, to_backfill=14)])
    monkeypatch.setattr(sync, "progress", noting)
    typed("sync", "--once")
    assert totals == [32]
