"""Points between the steps of the protocol where a test can kill, freeze or fail the process. For tests only.

`PGVECTOR_SYNC_FAILPOINT` names a folder. A file with the name of a point arms that point. The first process that
reaches it removes the file and is killed (SIGKILL), or frozen (SIGSTOP) if the file contains `stop`: one file
affects one process, even if processes are restarted. A file that contains `raise` makes every process raise an
unexpected exception until the test removes it. Without the variable `reach` does nothing.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum
from pathlib import Path

_FOLDER = os.environ.get("PGVECTOR_SYNC_FAILPOINT")


class Failpoint(StrEnum):
    """All points: between transactions, and between statements of a transaction that depend on each other."""

    DRAIN_LOCKED = "drain_locked"
    """No other process drains; no event has moved."""
    DRAIN_MOVED = "drain_moved"
    """Events are work, but not committed."""
    DRAIN_COMMITTED = "drain_committed"
    """Events are work; no doorbell was rung."""
    SWEEP_REMOVED = "sweep_removed"
    """A page of orphaned vectors is removed, but not committed."""
    SWEEP_WALKED = "sweep_walked"
    """All pages are committed; the event that asked for them is still there."""
    RELAY_DRAINED = "relay_drained"
    """The relay, or beat's tick, has drained and rung no bell yet."""
    TICK_TAKEN = "tick_taken"
    """This interval's tick is taken by this process, and nothing is done yet."""

    TASK_STARTED = "task_started"
    """The doorbell was received; its token still keeps it from ringing again."""
    TASK_ANSWERED = "task_answered"
    """The doorbell may ring again; nothing is claimed."""
    CLAIM_TAKEN = "claim_taken"
    """Rows are leased and their attempts counted, but not committed."""
    CLAIM_COMMITTED = "claim_committed"
    """Rows are leased, and their texts are not read yet."""
    READ_DONE = "read_done"
    """Texts are read; from the second attempt on, their fingerprints are stored as tried."""
    EMBED_CALLING = "embed_calling"
    """About to call the provider."""
    EMBED_ANSWERED = "embed_answered"
    """The provider has answered, and its answer is paid for."""
    WRITE_HELD = "write_held"
    """The pipeline is the claimed one, and can't change until the commit."""
    WRITE_LOCKED = "write_locked"
    """The work rows are ours, and locked."""
    WRITE_LOOKED = "write_looked"
    """The fingerprints of the rows are read again under the lock."""
    WRITE_WRITTEN = "write_written"
    """Vectors are written; their work is not acknowledged."""
    WRITE_ACKED = "write_acked"
    """Vectors are written and acknowledged, but not committed."""
    WRITE_COMMITTED = "write_committed"
    """One slice is committed; others may follow, and usage is not counted yet."""
    FAILURES_SETTLED = "failures_settled"
    """Rows are parked or backed off, but not committed."""
    FAILURES_COMMITTED = "failures_committed"
    """Rows are parked or backed off; the rest of the batch is not released yet."""
    PROVIDER_FAILED = "provider_failed"
    """Rows are released and the pipeline cools down, but not committed."""
    RELEASING = "releasing"
    """Rows that were not reached before the deadline are about to be released."""

    RUN_CLAIMED = "run_claimed"
    """The run is leased; no page is read yet."""
    BACKFILL_ENQUEUED = "backfill_enqueued"
    """A page is work and the watermark has moved, but not committed."""
    BACKFILL_COMMITTED = "backfill_committed"
    """A page is committed as work; the next one is not read, or the run is not finished."""
    RECONCILE_COMPARED = "reconcile_compared"
    """A page is compared and what has drifted is work, but not committed."""
    RECONCILE_COMMITTED = "reconcile_committed"
    """A page is committed; the next one is not read, or the counts are not written."""


class InjectedError(Exception):
    """Simulates a bug: it isn't in our error tree, and no code catches it by name."""


def reach(point: Failpoint) -> None:
    """Kill, freeze or fail the process here if a test has armed `point`."""
    if _FOLDER is not None:
        _fire(Path(_FOLDER, point))


def _fire(armed: Path) -> None:
    try:
        action = armed.read_text()
        if action == "raise":
            raise InjectedError(armed.name)
        armed.unlink()
    except FileNotFoundError:  # not armed, or another process took the file
        return
    signal.raise_signal(signal.SIGSTOP if action == "stop" else signal.SIGKILL)
