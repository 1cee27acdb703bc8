"""Places between the steps of the protocol where a test may end, freeze or fail the process. For tests only.

`PGVECTOR_SYNC_FAILPOINT` names a folder. A file in it that is called like a point arms that point: the process
that reaches it first takes the file away, and with it the shot, so that one file is one kill, whatever is started
again meanwhile. An empty file kills (SIGKILL), one that says `stop` freezes (SIGSTOP). One that says `raise`
raises an unexpected exception every time, until the test takes it away. Without the variable `reach` does
nothing.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum
from pathlib import Path

_FOLDER = os.environ.get("PGVECTOR_SYNC_FAILPOINT")


class Failpoint(StrEnum):
    """Every point there is: between transactions, and between statements of one that depend on one another."""

    DRAIN_LOCKED = "drain_locked"
    """Nobody else drains; the events are where they were."""
    DRAIN_MOVED = "drain_moved"
    """Events are work, but not committed."""
    DRAIN_COMMITTED = "drain_committed"
    """Events are work, and nobody was told."""
    SWEEP_REMOVED = "sweep_removed"
    """A page of orphaned vectors is removed, but not committed."""
    SWEEP_WALKED = "sweep_walked"
    """All pages are committed; the event that asked for them is still there."""
    RELAY_DRAINED = "relay_drained"
    """The relay, or beat's tick, has drained and rung no bell yet."""
    TICK_TAKEN = "tick_taken"
    """This interval's tick is taken, so that nobody else does it."""

    TASK_STARTED = "task_started"
    """The doorbell has come, and its token still keeps it from ringing again."""
    TASK_ANSWERED = "task_answered"
    """The doorbell may ring again; nothing is claimed."""
    CLAIM_TAKEN = "claim_taken"
    """Rows are leased and their attempts counted, but not committed."""
    CLAIM_COMMITTED = "claim_committed"
    """Rows are leased to a process that does not know what is in them."""
    READ_DONE = "read_done"
    """Texts are read, and from the second attempt on noted as tried."""
    EMBED_CALLING = "embed_calling"
    """About to call the provider."""
    EMBED_ANSWERED = "embed_answered"
    """The provider has answered, and its answer is paid for."""
    WRITE_HELD = "write_held"
    """The pipeline is the claimed one, and can't change until the commit."""
    WRITE_LOCKED = "write_locked"
    """The work rows are ours, and locked."""
    WRITE_LOOKED = "write_looked"
    """The rows' fingerprints are read again."""
    WRITE_WRITTEN = "write_written"
    """Vectors are written, their work not acknowledged."""
    WRITE_ACKED = "write_acked"
    """Vectors are written and acknowledged, but not committed."""
    WRITE_COMMITTED = "write_committed"
    """One slice is done; others may wait, and nothing is counted yet."""
    FAILURES_SETTLED = "failures_settled"
    """Rows are parked or backed off, but not committed."""
    FAILURES_COMMITTED = "failures_committed"
    """Rows are parked or backed off; the rest of the batch is not released yet."""
    PROVIDER_FAILED = "provider_failed"
    """Rows are released and the pipeline cools down, but not committed."""
    RELEASING = "releasing"
    """Rows that were not reached before the deadline are about to be given back."""

    RUN_CLAIMED = "run_claimed"
    """The run is leased, and no page of it was read."""
    BACKFILL_ENQUEUED = "backfill_enqueued"
    """A page is work and the watermark has moved, but not committed."""
    BACKFILL_COMMITTED = "backfill_committed"
    """A page is work; the next is not read, or the run not finished."""
    RECONCILE_COMPARED = "reconcile_compared"
    """A page is compared and what has drifted is work, but not committed."""
    RECONCILE_COMMITTED = "reconcile_committed"
    """A page is done; the next is not read, or the figures not written."""


class InjectedError(Exception):
    """Like a bug: in no error tree, and caught by its name nowhere."""


def reach(point: Failpoint) -> None:
    """Where the protocol may be interrupted."""
    if _FOLDER is not None:
        _fire(Path(_FOLDER, point))


def _fire(armed: Path) -> None:
    try:
        action = armed.read_text()
        if action == "raise":
            raise InjectedError(armed.name)
        armed.unlink()
    except FileNotFoundError:  # not armed, or another process was first
        return
    signal.raise_signal(signal.SIGSTOP if action == "stop" else signal.SIGKILL)
