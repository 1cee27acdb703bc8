"""Settle: park, back off or release rows that were not stored, and stop a pipeline that can't go on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta

from pgvector_sync.batch.bisection import Embedded
from pgvector_sync.batch.claim import Batch
from pgvector_sync.batch.failure import Failure
from pgvector_sync.batch.refusal import safe_name
from pgvector_sync.batch.spending import note_spending
from pgvector_sync.database import OUTAGE, Connection
from pgvector_sync.errors import UNEXPECTED, DatabaseRefuses, Disposition, Next, ProviderError, SyncError
from pgvector_sync.failpoint import Failpoint, reach
from pgvector_sync.model import Key, State
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import pipelines
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.event import Words
from pgvector_sync.telemetry.events.batch import (
    BatchParked,
    PipelineCoolingDown,
    PipelineMisconfigured,
    ReleaseFailed,
)

LONGEST_PAUSE = timedelta(seconds=30)
"""Longest time between two probes of a pipeline, so that work resumes within a minute of the recovery (G9)."""
STATES = {Next.COOL_DOWN: State.COOLING_DOWN, Next.STOP: State.MISCONFIGURED}


def fail(runtime: Runtime, batch: Batch, failures: dict[Key, Failure]) -> int:
    """Park dead letters, back off rows with attempts left, and release rows that have changed meanwhile.

    Returns the number of rows parked.
    """
    if not failures:
        return 0
    total = runtime.database.retry_on_lock_conflict(
        lambda connection: _settle(runtime, batch, failures, connection)
    )
    reach(Failpoint.FAILURES_COMMITTED)
    if total:
        classes = tuple(sorted({failure.error_class for failure in failures.values()}))
        emit(BatchParked(pipeline=batch.pipeline.name, rows=total, error_classes=classes))
    return total


def _settle(runtime: Runtime, batch: Batch, failures: dict[Key, Failure], connection: Connection) -> int:
    settings = runtime.settings
    total = 0
    alike: dict[tuple[Failure, bool], list[Key]] = {}
    for key, failure in failures.items():
        again = not failure.final and batch.rows[key].attempts < settings.attempts
        alike.setdefault((replace(failure, fingerprint=None), again), []).append(key)
    for (failure, again), keys in alike.items():
        if again:
            batch.holding.back_off(
                connection,
                keys,
                error_class=failure.error_class,
                error_message=failure.message,
                first=settings.backoff_first,
                longest=settings.backoff_longest,
                max_attempts=settings.attempts,
            )
            continue
        parked = batch.holding.park(
            connection,
            [(batch.rows[key], failures[key].fingerprint) for key in keys],
            error_class=failure.error_class,
            error_message=failure.message,
            verdict=failure.verdict,
        )
        total += len(parked)
        if changed := [key for key in keys if key not in parked]:
            # their generation has changed, so their content may have changed as well
            batch.holding.release(connection, changed, refund=False)
    reach(Failpoint.FAILURES_SETTLED)
    return total


def provider_failed(runtime: Runtime, batch: Batch, error: ProviderError, keys: Iterable[Key]) -> None:
    """Stop the pipeline and release `keys`. An outage is not a failure: rows keep their attempts (G9)."""
    reason = _reason(error, place="in the workers' environment: " if error.elsewhere else "")
    _stop(runtime, batch, error.disposition, reason, keys=list(keys), retry_after=error.retry_after)


def _reason(error: SyncError, *, place: str = "") -> str:
    """Return what went wrong, and what to do at `place`: `status` shows it on other machines as well."""
    return str(error) if error.hint is None else f"{error}; {place}{error.hint}"


def _stop(
    runtime: Runtime,
    batch: Batch,
    disposition: Disposition,
    reason: str,
    *,
    keys: Sequence[Key] = (),
    retry_after: timedelta | None = None,
) -> None:
    """Make the pipeline wait, until its probe at the latest, and release `keys` with their attempts refunded."""
    settings = runtime.settings
    state = STATES[disposition.pipeline]
    if retry_after is not None:  # some always ask for 0 seconds, and must not be called in a loop
        retry_after = max(retry_after, settings.backoff_first / 2)

    def stop(connection: Connection) -> bool:
        if keys:
            batch.holding.release(connection, keys)
        changed = pipelines.provider_failed(
            connection,
            batch.pipeline,
            state=state,
            reason=reason,
            retry_after=retry_after,
            probe=batch.probe,
            backoff_first=settings.backoff_first,
            backoff_longest=min(settings.backoff_longest, LONGEST_PAUSE),
        )
        if changed and disposition.whole_model:
            pipelines.rate_limited(connection, batch.pipeline)
        reach(Failpoint.PROVIDER_FAILED)
        return changed

    if not runtime.database.retry_on_lock_conflict(stop):
        return
    if state is State.COOLING_DOWN:
        emit(PipelineCoolingDown(pipeline=batch.pipeline.name, reason=Words(reason)))
    else:
        emit(PipelineMisconfigured(pipeline=batch.pipeline.name, reason=Words(reason)))


def stop(runtime: Runtime, batch: Batch, error: DatabaseRefuses) -> None:
    """Stop the pipeline until a person corrects the cause, or a probe succeeds."""
    _stop(runtime, batch, error.disposition, _reason(error))


def worker_failed(runtime: Runtime, batch: Batch, error: Exception) -> None:
    """Make the pipeline cool down after an unexpected exception, which every worker would meet without a pause."""
    reason = f"a worker failed ({safe_name(error)}): see its log"
    with suppress(*OUTAGE), _logged(batch):
        _stop(runtime, batch, UNEXPECTED, reason)


def release(runtime: Runtime, batch: Batch, keys: Iterable[Key], *, delay: timedelta = timedelta(0)) -> None:
    """Release rows with their attempt refunded."""
    reach(Failpoint.RELEASING)
    runtime.database.retry_on_lock_conflict(
        lambda connection: batch.holding.release(connection, list(keys), delay=delay)
    )


def release_after_error(
    runtime: Runtime,
    batch: Batch,
    embedded: Embedded,
    paid: dict[Key, bytes],
    failure: Failure,
    *,
    delay: timedelta = timedelta(0),
) -> None:
    """End a batch after an exception: rows that were `paid` for lose their attempt (G14), others get it back.

    Raises nothing. If the database is away, the keeper does it later. If it fails, the lease runs out, and the
    attempt stays counted.
    """
    failures = {key: replace(failure, fingerprint=fingerprint) for key, fingerprint in paid.items()}
    others = list(batch.rows.keys() - paid.keys())

    def end(connection: Connection) -> None:
        batch.holding.release(connection, others, delay=delay)
        if not embedded.noted:
            note_spending(runtime, connection, batch, embedded)
        if batch.probe:  # before the totals are locked, as in a claim
            pipelines.release_probe(connection, batch.pipeline)
        batch.holding.end(connection)

    def settle_and_end(connection: Connection) -> None:
        _settle(runtime, batch, failures, connection)
        end(connection)

    try:
        with _logged(batch):
            fail(runtime, batch, failures)
            runtime.database.retry_on_lock_conflict(end)
    except OUTAGE:
        runtime.keeper.do_later(batch.holding.lease, settle_and_end)


@contextmanager
def _logged(batch: Batch) -> Iterator[None]:
    """Log any exception, and raise only OUTAGE."""
    try:
        yield
    except Exception as error:  # the exception that ended the batch is raised instead
        emit(ReleaseFailed(pipeline=batch.pipeline.name, error=Words(safe_name(error))))
        if isinstance(error, OUTAGE):
            raise
