"""Process one batch from claim to ack, and decide what happens to its rows if something fails."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg

from pgvector_sync.batch import settle
from pgvector_sync.batch.bisection import Embedded
from pgvector_sync.batch.claim import Batch, claim
from pgvector_sync.batch.decide import Prepared
from pgvector_sync.batch.embed import embed
from pgvector_sync.batch.failure import Failure
from pgvector_sync.batch.read import Reading, read
from pgvector_sync.batch.refusal import safe_name
from pgvector_sync.batch.rehearse import rehearse
from pgvector_sync.batch.slice import Written
from pgvector_sync.batch.spending import note_spending
from pgvector_sync.batch.trace import traced
from pgvector_sync.batch.write import write
from pgvector_sync.database import LOCK_CONFLICT, OUTAGE, Connection
from pgvector_sync.errors import DatabaseRefuses, Next
from pgvector_sync.model import Key, Lane
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import learned, pipelines, runs
from pgvector_sync.telemetry import bound, emit, spans
from pgvector_sync.telemetry.events.batch import BatchWritten, PipelineRecovered

LONG_TEXTS_BYTES = 2**20
"""Size of a batch's texts above which garbage is collected after it. An error and the frames that it passed form a
reference cycle that holds the texts, and the collector counts objects rather than bytes."""
CLAIM_TRIES = 5
"""Each try waits up to 50 ms for a lock."""
LOCKED = Failure("write_failed", "source or target was locked after this row had been paid for", final=False)
DISCONNECTED = Failure("worker_failed", "the database went away after this row had been paid for", final=False)
INTERRUPTED = Failure("worker_failed", "the worker was interrupted after this row had been paid for", final=False)
"""Failures of rows that lose an attempt because they were paid for."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one batch, in rows."""

    claimed: int
    stored: int = 0
    removed: int = 0
    absent: int = 0
    unchanged: int = 0
    superseded: int = 0
    parked: int = 0
    released: int = 0
    full: bool = False
    """Whether the batch had the maximum size, so that more rows may be due."""


def process(runtime: Runtime, name: str, lane: Lane, *, share: int | None = None) -> Outcome | None:
    """Process one batch of a pipeline's lane. Parameters and None are those of `claim`."""
    started = spans.now()
    with bound(pipeline=name):
        batch = _claim(runtime, name, lane, share)
        if batch is None:
            return None
        with bound(**batch.names):
            return _process_claimed(runtime, batch, started)


def _process_claimed(runtime: Runtime, batch: Batch, started: int) -> Outcome:
    progress = BatchProgress()
    with runtime.keeper.keeping(batch.holding.lease):
        try:
            with traced(runtime, batch, started=started) as span:
                outcome = _process_or_release(runtime, batch, progress)
                span.set({"pgvector_sync.stored": outcome.stored, "pgvector_sync.parked": outcome.parked})
                return outcome
        finally:
            if progress.reading.octets > LONG_TEXTS_BYTES:
                del progress
                gc.collect()


def _process_or_release(runtime: Runtime, batch: Batch, progress: BatchProgress) -> Outcome:
    try:
        return _process(runtime, batch, progress)
    except DatabaseRefuses as error:
        reason = error
    except psycopg.ProgrammingError as error:
        # The source or the target was renamed, dropped or closed to us. DETAIL may quote a row.
        hint = "see `pgvector-sync doctor`"
        reason = DatabaseRefuses(
            f"the database refused a statement ({error.sqlstate}): source or target has changed", hint=hint
        )
    except LOCK_CONFLICT:
        # Source or target is locked as a whole, by DDL for example: no row is at fault.
        _end_after_error(runtime, batch, progress, LOCKED, delay=runtime.settings.backoff_first)
        return Outcome(claimed=len(batch.rows), released=len(batch.rows))
    except OUTAGE:
        _end_after_error(runtime, batch, progress, DISCONNECTED)
        raise
    except Exception as error:
        # A bug or a time limit: the pipeline cools down, says why, and tries single rows.
        words = f"the worker failed after this row had been paid for ({safe_name(error)})"
        failure = Failure("worker_failed", words, final=False)
        _end_after_error(runtime, batch, progress, failure, delay=runtime.settings.backoff_first)
        settle.worker_failed(runtime, batch, error)
        raise
    except BaseException:
        # Ctrl-C or a shutdown: release the rows now rather than when their lease ends.
        _end_after_error(runtime, batch, progress, INTERRUPTED)
        raise
    _end_after_error(runtime, batch, progress, Failure("write_failed", str(reason), final=False))
    settle.stop(runtime, batch, reason)
    return Outcome(claimed=len(batch.rows), released=len(batch.rows))


def _end_after_error(
    runtime: Runtime, batch: Batch, progress: BatchProgress, failure: Failure, *, delay: timedelta = timedelta(0)
) -> None:
    settle.release_after_error(runtime, batch, progress.embedded, progress.paid(), failure, delay=delay)


@dataclass
class BatchProgress:
    """How far a batch has come, in case an exception ends it."""

    reading: Reading = field(default_factory=Reading)
    embedded: Embedded = field(default_factory=Embedded)

    def paid(self) -> dict[Key, bytes]:
        """Rows whose text was bought, or may have been. Every purchase has to use up an attempt (G14)."""
        bought = self.embedded.bought
        passages = self.reading.to_embed.items()
        return {key: passage.fingerprint for key, passage in passages if passage.fingerprint in bought}


def _claim(runtime: Runtime, name: str, lane: Lane, share: int | None) -> Batch | None:
    """Claim, and retry on lock conflicts: claims of a pipeline run one at a time, and a live one can't wait."""
    for _ in range(CLAIM_TRIES):
        try:
            return claim(runtime, name, lane, share=share)
        except LOCK_CONFLICT:
            continue
    return None  # the next doorbell comes soon


def _process(runtime: Runtime, batch: Batch, progress: BatchProgress) -> Outcome:
    reading = progress.reading = read(runtime, batch)
    locked = rehearse(runtime, batch, reading)
    if locked:
        settle.release(runtime, batch, locked, delay=runtime.settings.backoff_first)
    embedded = embed(runtime, batch, reading, progress.embedded)
    prepared = _prepare(batch, reading, embedded)
    written = _write(runtime, batch, prepared) if prepared else Written()
    failures = _failures(reading, embedded) | written.failed
    parked = settle.fail(runtime, batch, failures)
    unreached = set(batch.rows) - {row.key for row in prepared} - set(failures) - locked
    released = len(unreached | written.held_up | locked)
    stopped_by = embedded.stopped_by
    if stopped_by is not None and stopped_by.disposition.pipeline is not Next.CARRY_ON:
        settle.provider_failed(runtime, batch, stopped_by, unreached)
    elif unreached:
        settle.release(runtime, batch, unreached)
    _count_usage(runtime, batch, embedded, written)
    emit(
        BatchWritten(
            pipeline=batch.pipeline.name,
            lane=batch.lane,
            claimed=len(batch.rows),
            stored=len(written.stored),
            removed=len(written.removed),
            absent=len(written.absent),
            unchanged=len(written.unchanged),
            superseded=len(written.superseded),
            parked=parked,
            released=released,
            truncated=embedded.truncated_inputs,
        )
    )
    return Outcome(
        claimed=len(batch.rows),
        stored=len(written.stored),
        removed=len(written.removed),
        absent=len(written.absent),
        unchanged=len(written.unchanged),
        superseded=len(written.superseded),
        parked=parked,
        released=released,
        full=len(batch.rows) == batch.size and not batch.probe and embedded.stopped_by is None,
    )


def _prepare(batch: Batch, reading: Reading, embedded: Embedded) -> list[Prepared]:
    prepared = [Prepared(key, None, None, batch.rows[key].force) for key in reading.settled]
    for key, passage in reading.to_embed.items():
        vector = embedded.vectors.get(passage.fingerprint)
        if vector is not None:
            bought = passage.fingerprint in embedded.bought
            prepared.append(Prepared(key, passage, vector, batch.rows[key].force, bought))
    return prepared


def _write(runtime: Runtime, batch: Batch, prepared: list[Prepared]) -> Written:
    with spans.span("write", {"pgvector_sync.rows": len(prepared)}) as span:
        written = write(runtime, batch, prepared)
        span.set(
            {
                "pgvector_sync.stored": len(written.stored),
                "pgvector_sync.superseded": len(written.superseded),
                "pgvector_sync.failed": len(written.failed),
            }
        )
        return written


def _failures(reading: Reading, embedded: Embedded) -> dict[Key, Failure]:
    failures = dict(reading.failed)
    for key, passage in reading.to_embed.items():
        failure = embedded.failures.get(passage.fingerprint)
        if failure is not None:
            failures[key] = failure
    return failures


def _count_usage(runtime: Runtime, batch: Batch, embedded: Embedded, written: Written) -> None:
    """Update the usage counters and what was learned, and end a cool-down if a probe succeeded.

    A transaction of its own, so that no write waits for another batch's counters.
    """

    def count(connection: Connection) -> None:
        note_spending(runtime, connection, batch, embedded, written)
        if embedded.learned is not None and embedded.learned != batch.pipeline.learned:
            # if another batch has learned something meanwhile, this one's knowledge is outdated
            learned.note(connection, batch.pipeline, embedded.learned)
        batch.holding.end(connection)
        if len(batch.rows) < batch.size and batch.runs:
            runs.wake(connection, batch.runs)

    runtime.database.retry_on_lock_conflict(count)
    embedded.noted = True
    if not batch.probe or embedded.stopped_by is not None:
        return
    if embedded.requests > 0:
        runtime.database.retry_on_lock_conflict(lambda connection: pipelines.recovered(connection, batch.pipeline))
        emit(PipelineRecovered(pipeline=batch.pipeline.name))
    else:  # the probed row needed no call, so the provider's state is still unknown
        runtime.database.retry_on_lock_conflict(
            lambda connection: pipelines.release_probe(connection, batch.pipeline)
        )
