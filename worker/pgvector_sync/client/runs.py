"""The methods of `Sync` that request, show, await and cancel runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from pgvector_sync.client.keys import AnyKey, keys_of
from pgvector_sync.client.opening import Opening
from pgvector_sync.model.request import Reconcile, Reembed
from pgvector_sync.observe import waiting
from pgvector_sync.runs import requests
from pgvector_sync.runs.requests import Requested
from pgvector_sync.store import drift, runs
from pgvector_sync.store.drift import Figures
from pgvector_sync.store.runs import Run

if TYPE_CHECKING:
    from pgvector_sync.runs.estimate import Estimate


class RunMethods(Opening):
    """Inherited by `Sync`, which documents the errors that all methods raise."""

    def reembed(
        self,
        pipeline: str,
        *,
        where: str | None = None,
        keys: Iterable[AnyKey] | None = None,
        stale_only: bool = False,
        force: bool = False,
        rows_per_second: float | None = None,
    ) -> Requested:
        """Request a run that reads rows again; any worker carries it out. Only changed texts are paid for.

        pipeline: the pipeline's name.
        where: an SQL condition over the columns of the source; None for every row. It is executed as SQL: never
            put untrusted input into it.
        keys: the keys of the rows, instead of `where`. A key is the value of its column, or a sequence with one
            value per column: int, str, bool, UUID, Decimal, date or datetime (with a time zone for timestamptz).
        stale_only: enqueue only rows whose stored fingerprint differs, instead of every row.
        force: embed and pay again, even if the vector of the same text is stored.
        rows_per_second: the maximum rate at which rows are enqueued, 0.01 or more; None for no limit.

        If an identical request is still running, it is joined (`joined`). Requests with keys are never joined.
        """
        request = Reembed(where, keys is not None, stale_only, force, rows_per_second)
        with self._runtime() as runtime:
            canonical = None if keys is None else keys_of(runtime.database, pipeline, keys)
            return requests.request_reembed(runtime.database, pipeline, request, keys=canonical)

    def estimate(
        self,
        pipeline: str,
        *,
        where: str | None = None,
        keys: Iterable[AnyKey] | None = None,
        stale_only: bool = False,
        force: bool = False,
    ) -> Estimate:
        """Estimate the rows, tokens, cost and duration of a re-embed from a sample, without calling a provider.

        pipeline, where, keys, stale_only, force: as for `reembed`.
        """
        from pgvector_sync.runs.estimate import estimate

        request = Reembed(where, keys is not None, stale_only, force)
        with self._runtime() as runtime:
            canonical = None if keys is None else keys_of(runtime.database, pipeline, keys)
            return estimate(runtime, pipeline, request, keys=canonical)

    def reconcile(
        self, pipeline: str, *, deep: bool = False, dry_run: bool = False, accept_orphans: bool = False
    ) -> Requested:
        """Request a run that compares source and target, and enqueues the rows that have drifted.

        pipeline: the pipeline's name.
        deep: also compare texts and vectors. This reads every row, on the server.
        dry_run: count the drifted rows and enqueue none.
        accept_orphans: remove orphaned vectors even above the pipeline's `orphan_share`.

        At most one reconciliation per pipeline runs at a time. An identical one is joined (`joined`). Raises
        Refused while a different one is running.
        """
        request = Reconcile(deep, dry_run, accept_orphans)
        with self._runtime() as runtime:
            return requests.request_reconcile(runtime.database, pipeline, request)

    def reconciliations(self, pipeline: str | None = None, *, limit: int = 100) -> list[Figures]:
        """Return the figures of earlier reconciliations, newest first.

        pipeline: the name of one pipeline; None for all.
        limit: the maximum number of reconciliations.
        """
        with self._runtime(pipeline) as runtime, runtime.database.transaction(read_only=True) as connection:
            return drift.trend(connection, pipeline, limit=limit)

    def runs(self, pipeline: str | None = None, *, limit: int = 20) -> list[Run]:
        """Return backfills, re-embeds and reconciliations, past and present, newest first.

        pipeline: the name of one pipeline; None for all.
        limit: the maximum number of runs.
        """
        with self._runtime(pipeline) as runtime, runtime.database.transaction(read_only=True) as connection:
            return runs.list_runs(connection, pipeline=pipeline, limit=limit)

    def run(self, run_id: int) -> Run:
        """Return the request, progress and results of a run. Raises Refused for an unknown run.

        run_id: the run's number.
        """
        with self._runtime() as runtime:
            return waiting.find_run(runtime, run_id)

    def cancel(self, run_id: int) -> None:
        """Stop a run from enqueueing more rows. Rows that it has enqueued are still processed.

        run_id: the run's number. Raises Refused for a backfill, and for a run that has ended.
        """
        with self._runtime() as runtime:
            requests.cancel(runtime.database, waiting.find_run(runtime, run_id))

    def wait(
        self,
        run_id: int,
        *,
        timeout: timedelta | None = None,
        carry_out: bool = False,
        on_progress: Callable[[Run], None] | None = None,
        on_silence: Callable[[Run, str], None] | None = None,
    ) -> Run:
        """Wait until a run has ended and all its rows have been processed; returns the run.

        run_id: the run's number.
        timeout: how long to wait before raising TimeoutError; the run continues. None to wait indefinitely.
        carry_out: enqueue the run's rows in this process instead of leaving that to the workers. This needs a
            worker's privileges. The rows are embedded by workers in either case.
        on_progress: called several times per second with the current run.
        on_silence: called with the run and the reason if the run makes no progress.
        """
        with self._runtime() as runtime:
            return waiting.wait_for(
                runtime,
                run_id,
                timeout=timeout,
                walk=carry_out,
                on_progress=on_progress or (lambda _: None),
                on_silence=(lambda _: None)
                if on_silence is None
                else (lambda run: on_silence(run, waiting.what_holds_up(runtime, run))),
            )

    def require_unpaused(self, *names: str) -> None:
        """Raise Refused if any of these pipelines is paused, since waiting for its runs would never end.

        names: the pipelines' names.
        """
        with self._runtime() as runtime:
            waiting.require_not_paused(runtime, names)
