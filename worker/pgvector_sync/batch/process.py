"""One batch from claim to ack, and what becomes of it when something fails on the way."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field

import psycopg

from pgvector_sync.batch import settle
from pgvector_sync.batch.bisection import Embedded
from pgvector_sync.batch.claim import Batch, claim
from pgvector_sync.batch.decide import Prepared
from pgvector_sync.batch.embed import embed
from pgvector_sync.batch.failure import Failure
from pgvector_sync.batch.read import Reading, read
from pgvector_sync.batch.refusal import name_of
from pgvector_sync.batch.rehearse import rehearse
from pgvector_sync.batch.slice import Written
from pgvector_sync.batch.write import write
from pgvector_sync.database import LOCK_CONFLICT, OUTAGE, Connection
from pgvector_sync.errors import DatabaseRefuses, Next
from pgvector_sync.model import Key, Lane
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import pipelines, usage
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.batch import BatchWritten, PipelineRecovered

LONG_TEXTS_BYTES = 2**20
"""From here on garbage is collected at the end of a batch: an error and the frames that it came through hold one
another, and the texts, until the collector comes, which counts objects and not bytes."""
CLAIM_TRIES = 5
"""Each waits for a lock for 50 ms at most."""
WAITED = Failure("write_failed", "source or target was locked when this row had been paid for", final=False)
LOST = Failure("worker_failed", "the database went away when this row had been paid for", final=False)
INTERRUPTED = Failure("worker_failed", "the worker was interrupted when this row was paid for", final=False)
"""What is held against rows that lose an attempt because they were paid for."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one batch came to, in rows."""

    claimed: int
    stored: int = 0
    removed: int = 0
    absent: int = 0
    unchanged: int = 0
    superseded: int = 0
    parked: int = 0
    released: int = 0
    full: bool = False
    """The batch was as large as it could be: there may be more."""


def process(runtime: Runtime, name: str, lane: Lane, *, share: int | None = None) -> Outcome | None:
    """Carries one batch of a pipeline's lane from claim to ack, see `claim`; None when there was none."""
    batch = _claim(runtime, name, lane, share)
    if batch is None:
        return None
    carried = Carried()
    with runtime.keeper.keeping(batch.holding.lease):
        try:
            return _carry_or_give_back(runtime, batch, carried)
        finally:
            if carried.reading.octets > LONG_TEXTS_BYTES:
                del carried
                gc.collect()


def _carry_or_give_back(runtime: Runtime, batch: Batch, carried: Carried) -> Outcome:
    try:
        return _carry(runtime, batch, carried)
    except DatabaseRefuses as error:
        reason = error
    except psycopg.ProgrammingError as error:
        # the source or the target was renamed, dropped or closed to us; DETAIL may quote a row
        hint = "see `pgvector-sync doctor`"
        reason = DatabaseRefuses(
            f"the database refuses ({error.sqlstate}): source or target was changed", hint=hint
        )
    except LOCK_CONFLICT:
        # source or target is locked as a whole, by DDL, say: later, and nobody's fault
        settle.give_back(runtime, batch, carried.paid(), WAITED, delay=runtime.settings.backoff_first)
        return Outcome(claimed=len(batch.rows), released=len(batch.rows))
    except OUTAGE:
        settle.give_back(runtime, batch, carried.paid(), LOST)
        raise
    except Exception as error:
        # a bug, a time limit: the pipeline slows down, says so, and tries single rows
        words = f"the worker failed when this row was paid for ({name_of(error)})"
        failure = Failure("worker_failed", words, final=False)
        settle.give_back(runtime, batch, carried.paid(), failure, delay=runtime.settings.backoff_first)
        settle.failed(runtime, batch, error)
        raise
    except BaseException:
        # Ctrl-C or a shutdown: don't let the rows wait for their lease if it can be helped
        settle.give_back(runtime, batch, carried.paid(), INTERRUPTED)
        raise
    settle.give_back(runtime, batch, carried.paid(), Failure("write_failed", str(reason), final=False))
    settle.stop(runtime, batch, reason)
    return Outcome(claimed=len(batch.rows), released=len(batch.rows))


@dataclass
class Carried:
    """How far a batch has come, for when an exception ends it."""

    reading: Reading = field(default_factory=Reading)
    embedded: Embedded = field(default_factory=Embedded)

    def paid(self) -> dict[Key, bytes]:
        """Rows whose text was bought, or may have been: each time has to use up an attempt (G14)."""
        bought = self.embedded.bought
        passages = self.reading.to_embed.items()
        return {key: passage.fingerprint for key, passage in passages if passage.fingerprint in bought}


def _claim(runtime: Runtime, name: str, lane: Lane, share: int | None) -> Batch | None:
    """Claims of a pipeline come one after the other: a live one that gave up behind large ones would be late."""
    for _ in range(CLAIM_TRIES):
        try:
            return claim(runtime, name, lane, share=share)
        except LOCK_CONFLICT:
            continue
    return None  # the next doorbell comes soon


def _carry(runtime: Runtime, batch: Batch, carried: Carried) -> Outcome:
    reading = carried.reading = read(runtime, batch)
    locked = rehearse(runtime, batch, reading)
    if locked:
        settle.release(runtime, batch, locked, delay=runtime.settings.backoff_first)
    embedded = embed(runtime, batch, reading, carried.embedded)
    prepared = _prepare(batch, reading, embedded)
    written = write(runtime, batch, prepared) if prepared else Written()
    failures = _failures(reading, embedded) | written.failed
    parked = settle.fail(runtime, batch, failures)
    unreached = set(batch.rows) - {row.key for row in prepared} - set(failures) - locked
    released = len(unreached | written.held_up | locked)
    stopped_by = embedded.stopped_by
    if stopped_by is not None and stopped_by.disposition.pipeline is not Next.CARRY_ON:
        settle.provider_failed(runtime, batch, stopped_by, unreached)
    elif unreached:
        settle.release(runtime, batch, unreached)
    _account(runtime, batch, embedded, written)
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


def _failures(reading: Reading, embedded: Embedded) -> dict[Key, Failure]:
    found = dict(reading.failed)
    for key, passage in reading.to_embed.items():
        failure = embedded.failures.get(passage.fingerprint)
        if failure is not None:
            found[key] = failure
    return found


def _account(runtime: Runtime, batch: Batch, embedded: Embedded, written: Written) -> None:
    """Counters, and the end of a cool-down. Apart from the write: no batch waits for another's counters."""

    def count(connection: Connection) -> None:
        usage.note(
            connection,
            batch.pipeline,
            requests=embedded.requests,
            tokens=embedded.tokens,
            inputs=embedded.inputs,
            saved_inputs=embedded.saved_inputs + len(written.unchanged),
            rows=written.acknowledged,
        )
        batch.holding.end(connection)

    runtime.database.retry_on_lock_conflict(count)
    if not batch.probe or embedded.stopped_by is not None:
        return
    if embedded.requests > 0:
        runtime.database.retry_on_lock_conflict(lambda connection: pipelines.recovered(connection, batch.pipeline))
        emit(PipelineRecovered(pipeline=batch.pipeline.name))
    else:  # the probed row needed no call: the provider is as unknown as before
        runtime.database.retry_on_lock_conflict(
            lambda connection: pipelines.release_probe(connection, batch.pipeline)
        )
