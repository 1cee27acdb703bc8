"""One batch from claim to ack, and what becomes of it when something fails on the way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import psycopg

from pgvector_sync.embedding.budget import OUR_BUDGET
from pgvector_sync.errors import Misconfigured, ProviderError, RateLimited, Unavailable
from pgvector_sync.failpoint import Failpoint, reach
from pgvector_sync.model import Key, Lane, State
from pgvector_sync.store import pipelines, usage
from pgvector_sync.store.database import IN_THE_WAY, Connection
from pgvector_sync.sync.batch.bisection import OUR_DEADLINE, Embedded
from pgvector_sync.sync.batch.claim import Batch, claim
from pgvector_sync.sync.batch.embed import embed
from pgvector_sync.sync.batch.read import Failure, Reading, read
from pgvector_sync.sync.batch.write import Prepared, Written, write
from pgvector_sync.sync.runtime import Runtime
from pgvector_sync.telemetry import Event, log

CLAIM_TRIES = 5
"""Each waits for a lock for 50 ms at most."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one batch came to, in rows."""

    claimed: int
    stored: int = 0
    removed: int = 0
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
    try:
        return _carry(runtime, batch)
    except psycopg.ProgrammingError as error:
        # the source or the target was renamed, dropped or closed to us; DETAIL may quote a row
        reason = (
            f"the database refuses ({error.sqlstate}): source or target was changed; see `pgvector-sync doctor`"
        )
        return _stop(runtime, batch, Misconfigured(reason))
    except IN_THE_WAY:
        # source or target is locked as a whole, by DDL, say: later, and nobody's fault
        _try_release(runtime, batch, delay=runtime.settings.backoff_first)
        return Outcome(claimed=len(batch.rows), released=len(batch.rows))
    except BaseException:
        # Ctrl-C, a lost connection, a bug: don't let the rows wait for their lease if it can be helped
        _try_release(runtime, batch)
        raise


def _claim(runtime: Runtime, name: str, lane: Lane, share: int | None) -> Batch | None:
    """Claims of a pipeline come one after the other: a live one that gave up behind large ones would be late."""
    for _ in range(CLAIM_TRIES):
        try:
            return claim(runtime, name, lane, share=share)
        except IN_THE_WAY:
            continue
    return None  # the next doorbell comes soon


def _carry(runtime: Runtime, batch: Batch) -> Outcome:
    reading = read(runtime, batch)
    embedded = embed(runtime, batch, reading)
    prepared = _prepare(batch, reading, embedded)
    written = write(runtime, batch, prepared) if prepared else Written()
    failures = _failures(reading, embedded) | written.failed
    parked = _fail(runtime, batch, failures)
    unreached = set(batch.rows) - {row.key for row in prepared} - set(failures)
    released = len(unreached | written.held_up)
    if embedded.stopped_by is not None and not _says_nothing(embedded.stopped_by):
        _provider_failed(runtime, batch, embedded.stopped_by, unreached)
    elif unreached:
        _release(runtime, batch, unreached)
    _account(runtime, batch, embedded, written)
    log.info(
        Event.WRITE,
        pipeline=batch.pipeline.name,
        lane=batch.lane.value,
        claimed=len(batch.rows),
        stored=len(written.stored),
        removed=len(written.removed),
        unchanged=len(written.unchanged),
        superseded=len(written.superseded),
        parked=parked,
        released=released,
    )
    return Outcome(
        claimed=len(batch.rows),
        stored=len(written.stored),
        removed=len(written.removed),
        unchanged=len(written.unchanged),
        superseded=len(written.superseded),
        parked=parked,
        released=released,
        full=len(batch.rows) == batch.size and not batch.probe and embedded.stopped_by is None,
    )


def _says_nothing(error: ProviderError) -> bool:
    """The failure is ours: the rows go back, and the provider is as healthy as before."""
    return error.status is None and error.code in {OUR_DEADLINE, OUR_BUDGET}


def _prepare(batch: Batch, reading: Reading, embedded: Embedded) -> list[Prepared]:
    prepared = [Prepared(key, None, None, batch.rows[key].force) for key in reading.settled]
    for key, row in reading.to_embed.items():
        vector = embedded.vectors.get(row.fingerprint) if row.fingerprint else None
        if vector is not None:
            prepared.append(Prepared(key, row.fingerprint, vector, batch.rows[key].force))
    return prepared


def _failures(reading: Reading, embedded: Embedded) -> dict[Key, Failure]:
    found = dict(reading.failed)
    for key, row in reading.to_embed.items():
        failure = embedded.failures.get(row.fingerprint) if row.fingerprint else None
        if failure is not None:
            found[key] = failure
    return found


def _fail(runtime: Runtime, batch: Batch, failures: dict[Key, Failure]) -> int:
    """Parks dead letters, lets the others wait for their next attempt, releases what changed meanwhile."""
    if not failures:
        return 0
    total = runtime.database.patiently(lambda connection: _settle(runtime, batch, failures, connection))
    reach(Failpoint.FAILURES_COMMITTED)
    if total:
        classes = sorted({failure.error_class for failure in failures.values()})
        log.warning(Event.PARKED, pipeline=batch.pipeline.name, rows=total, error_classes=classes)
    return total


def _settle(runtime: Runtime, batch: Batch, failures: dict[Key, Failure], connection: Connection) -> int:
    settings = runtime.settings
    total = 0
    for key, failure in failures.items():
        row = batch.rows[key]
        if not failure.final and row.attempts < settings.attempts:
            batch.holding.back_off(
                connection,
                [key],
                error_class=failure.error_class,
                error_message=failure.message,
                first=settings.backoff_first,
                longest=settings.backoff_longest,
                max_attempts=settings.attempts,
            )
            continue
        parked = batch.holding.park(
            connection,
            [(row, failure.fingerprint)],
            error_class=failure.error_class,
            error_message=failure.message,
            verdict=failure.verdict,
        )
        total += len(parked)
        if not parked:  # another generation by now: its content may be another
            batch.holding.release(connection, [key])
    reach(Failpoint.FAILURES_SETTLED)
    return total


def _provider_failed(runtime: Runtime, batch: Batch, error: ProviderError, keys: Iterable[Key]) -> None:
    """An outage is not a failure: the pipeline waits and says why, the rows keep their attempts (G9)."""
    waits = isinstance(error, RateLimited | Unavailable)
    state = State.COOLING_DOWN if waits else State.MISCONFIGURED
    retry_after = error.retry_after if isinstance(error, RateLimited | Unavailable) else None
    reason = str(error) if error.hint is None else f"{error}; {error.hint}"

    def wait(connection: Connection) -> bool:
        batch.holding.release(connection, list(keys))
        changed = pipelines.provider_failed(
            connection,
            batch.pipeline,
            state=state,
            reason=reason,
            retry_after=retry_after,
            probe=batch.probe,
            backoff_first=runtime.settings.backoff_first,
            backoff_longest=runtime.settings.backoff_longest,
        )
        if changed and isinstance(error, RateLimited):
            pipelines.rate_limited(connection, batch.pipeline)
        reach(Failpoint.PROVIDER_FAILED)
        return changed

    changed = runtime.database.patiently(wait)
    if changed:
        log.warning(
            Event.COOL_DOWN if waits else Event.MISCONFIGURED, pipeline=batch.pipeline.name, reason=str(error)
        )


def _stop(runtime: Runtime, batch: Batch, error: Misconfigured) -> Outcome:
    _provider_failed(runtime, batch, error, batch.rows)
    return Outcome(claimed=len(batch.rows), released=len(batch.rows))


def _release(runtime: Runtime, batch: Batch, keys: Iterable[Key]) -> None:
    reach(Failpoint.RELEASING)
    runtime.database.patiently(lambda connection: batch.holding.release(connection, list(keys)))


def _try_release(runtime: Runtime, batch: Batch, *, delay: timedelta = timedelta(0)) -> None:
    keys = list(batch.rows)
    try:
        runtime.database.patiently(lambda connection: batch.holding.release(connection, keys, delay=delay))
        if batch.probe:
            runtime.database.patiently(lambda connection: pipelines.release_probe(connection, batch.pipeline))
    except psycopg.Error as error:
        log.warning(Event.RELEASE_FAILED, pipeline=batch.pipeline.name, sqlstate=error.sqlstate)


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

    runtime.database.patiently(count)
    if not batch.probe or embedded.stopped_by is not None:
        return
    if embedded.requests > 0:
        runtime.database.patiently(lambda connection: pipelines.recovered(connection, batch.pipeline))
        log.info(Event.RECOVERED, pipeline=batch.pipeline.name)
    else:  # the probed row needed no call: the provider is as unknown as before
        runtime.database.patiently(lambda connection: pipelines.release_probe(connection, batch.pipeline))
