"""`sync --once` ends when waiting changes nothing any more."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

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
