"""`Sync`: the verbs of the command line, for applications."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta

import psycopg

from pgvector_sync.client import keys as given_keys
from pgvector_sync.client.keys import AnyKey
from pgvector_sync.client.opening import Opening
from pgvector_sync.client.results import Resumed, Status
from pgvector_sync.database import Connection, Database
from pgvector_sync.engine import watch
from pgvector_sync.errors import Refused
from pgvector_sync.model import Key, KeyColumn, Provider, State
from pgvector_sync.model.request import Reconcile, Reembed
from pgvector_sync.observe import waiting
from pgvector_sync.observe.search import Hit, nearest
from pgvector_sync.observe.status import read_status, read_workers
from pgvector_sync.runs import requests
from pgvector_sync.runs.estimate import Estimate, estimate
from pgvector_sync.runs.requests import Requested
from pgvector_sync.store import dead_letters, drift, outbox, pipelines, runs
from pgvector_sync.store.dead_letters import DeadLetter
from pgvector_sync.store.drift import Figures
from pgvector_sync.store.runs import Run

REFUSED_KEYS = (
    psycopg.errors.UndefinedObject,
    psycopg.errors.WrongObjectType,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.DataError,
)
"""What the function pgvector_sync.enqueue raises for an unknown pipeline, and for keys that aren't keys of it."""


class Sync(Opening):
    """The pipelines of one database: their state, their runs, their dead letters, and search.

        with Sync() as sync:
            run = sync.reembed("articles", where="updated_at < '2026-01-01'")
            sync.wait(run.run_id)

    database_url: where the schema `pgvector_sync` is, as libpq reads it; DATABASE_URL by default.
    settings: in place of those of the environment, see docs/configuration.md.

    Nothing is opened before the first call, so that an instance may be made before a process forks, and kept for
    as long as the process lives. Threads may share it: at most four connections are open at a time. `close` or the
    end of a `with` block closes them.

    Every method raises Refused for what can't be done (an unknown pipeline, a missing grant), with what to do in
    its `hint`; MigrationRefused where the schema is missing or of another version; and psycopg.OperationalError
    while the database is out of reach. The constructor raises ConfigError for a wrong configuration.
    """

    # -- pipelines -----------------------------------------------------------------------------------------

    def pipelines(self) -> tuple[str, ...]:
        """Return the names of all pipelines but those that are being removed."""
        with self._runtime() as runtime, runtime.database.transaction(read_only=True) as connection:
            found = pipelines.all_pipelines(connection)
        return tuple(pipeline.name for pipeline in found if pipeline.state is not State.REMOVING)

    def key_columns(self, pipeline: str) -> tuple[KeyColumn, ...]:
        """Return name and type of each key column of the source, in the order of a key's parts.

        pipeline: its name.
        """
        with self._runtime() as runtime:
            return _key_columns(runtime.database, pipeline)

    def provider(self, pipeline: str) -> Provider:
        """Return where a pipeline's texts are embedded.

        pipeline: its name.
        """
        with self._runtime() as runtime, runtime.database.transaction(read_only=True) as connection:
            return pipelines.require_pipeline(connection, pipeline).provider

    def status(self, pipeline: str | None = None, *, exact: bool = False) -> Status:
        """Return how fresh each pipeline is, what waits and why, and which workers are alive.

        pipeline: only this one; None for all.
        exact: count every row instead of estimating: reads the whole source, on the server.
        """
        with self._runtime() as runtime:
            limit = runtime.settings.text_limit_bytes if exact else None
            found = read_status(runtime.database, pipeline, exact_text_limit=limit)
            return Status(read_workers(runtime.database), tuple(found))

    def pause(self, pipeline: str, *, reason: str | None = None) -> bool:
        """Stop embedding; changes are still captured, and wait. Returns False if it was paused already.

        pipeline: its name.
        reason: shown by `status`; None for none.
        """
        with self._runtime() as runtime:
            _require(runtime.database, pipeline)
            return runtime.database.retry_on_lock_conflict(
                lambda connection: pipelines.pause(connection, pipeline, reason)
            )

    def resume(self, pipeline: str) -> Resumed:
        """End a pause, a cool-down or `misconfigured`, and compare what is installed with what is needed.

        pipeline: its name.
        """
        with self._runtime() as runtime:
            _require(runtime.database, pipeline)
            changed = runtime.database.retry_on_lock_conflict(
                lambda connection: pipelines.resume(connection, pipeline)
            )
            verdicts = watch.look_now(runtime.database, pipeline)
        return Resumed(changed, tuple(str(verdict.problem) for verdict in verdicts if verdict.problem))

    # -- runs ----------------------------------------------------------------------------------------------

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
        """Ask for rows to be read again; any worker carries the run out. Only what differs is paid for.

        pipeline: its name.
        where: an SQL condition over the columns of the source; None for every row. It is run as SQL: never put a
            user's input into it.
        keys: only these rows, instead of `where`. A key is the value of its column, or a sequence of one value per
            column: int, str, bool, UUID, Decimal, date or datetime (with a time zone for timestamptz).
        stale_only: enqueue only rows whose stored fingerprint differs, instead of looking at each in its turn.
        force: pay again, even for texts whose vectors are stored.
        rows_per_second: rows enqueued per second, at most; 0.01 or more. None for no limit.

        An identical request that is still running is joined instead (`joined`), except for one with keys.
        """
        request = Reembed(where, keys is not None, stale_only, force, rows_per_second)
        with self._runtime() as runtime:
            listed = None if keys is None else self._listed(runtime.database, pipeline, keys)
            return requests.request_reembed(runtime.database, pipeline, request, keys=listed)

    def estimate(
        self,
        pipeline: str,
        *,
        where: str | None = None,
        keys: Iterable[AnyKey] | None = None,
        stale_only: bool = False,
        force: bool = False,
    ) -> Estimate:
        """Return rows, tokens, cost and time of a re-embed, from a sample. Calls no provider and changes nothing.

        pipeline, where, keys, stale_only, force: as `reembed` takes them.
        """
        request = Reembed(where, keys is not None, stale_only, force)
        with self._runtime() as runtime:
            listed = None if keys is None else self._listed(runtime.database, pipeline, keys)
            return estimate(runtime, pipeline, request, keys=listed)

    def reconcile(
        self, pipeline: str, *, deep: bool = False, dry_run: bool = False, accept_orphans: bool = False
    ) -> Requested:
        """Ask for source and target to be compared, and for what has drifted to be enqueued.

        pipeline: its name.
        deep: compare the texts and vectors as well: reads every row, on the server.
        dry_run: count what has drifted and enqueue nothing.
        accept_orphans: remove orphaned vectors even above the pipeline's `orphan_share`.

        One reconciliation per pipeline runs at a time: an identical one is joined (`joined`). Raises Refused
        while a different one runs.
        """
        request = Reconcile(deep, dry_run, accept_orphans)
        with self._runtime() as runtime:
            return requests.request_reconcile(runtime.database, pipeline, request)

    def reconciliations(self, pipeline: str | None = None, *, limit: int = 100) -> list[Figures]:
        """Return what reconciliations have found, newest first.

        pipeline: only this one's; None for all.
        limit: how many, at most.
        """
        with self._runtime() as runtime:
            if pipeline is not None:
                _require(runtime.database, pipeline)
            with runtime.database.transaction(read_only=True) as connection:
                return drift.trend(connection, pipeline, limit=limit)

    def runs(self, pipeline: str | None = None, *, limit: int = 20) -> list[Run]:
        """Return backfills, re-embeds and reconciliations, past and present, newest first.

        pipeline: only this one's; None for all.
        limit: how many, at most.
        """
        with self._runtime() as runtime:
            if pipeline is not None:
                _require(runtime.database, pipeline)
            with runtime.database.transaction(read_only=True) as connection:
                return runs.list_runs(connection, pipeline=pipeline, limit=limit)

    def run(self, run_id: int) -> Run:
        """Return one run: what was asked for, how far it is, what it found. Raises Refused where there is none.

        run_id: its number.
        """
        with self._runtime() as runtime:
            return waiting.find_run(runtime, run_id)

    def cancel(self, run_id: int) -> None:
        """Let a run enqueue no more; what it has enqueued is still looked at, and not paid for again.

        run_id: its number. Raises Refused for a backfill, and for a run that has ended.
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
        """Wait until a run has ended and none of its rows waits any more; returns it.

        run_id: its number.
        timeout: raise TimeoutError after this long; the run continues. None to wait for as long as it takes.
        carry_out: enqueue the run's rows in this process meanwhile, which needs a worker's rights, instead of
            leaving that to the workers. Workers embed the rows in any case.
        on_progress: called several times per second with the run as it is.
        on_silence: called with the run and the reason when nothing has moved for a while.
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
        """Raise Refused where one of these pipelines is paused: waiting for its runs would not end.

        names: of pipelines.
        """
        with self._runtime() as runtime:
            waiting.require_not_paused(runtime, names)

    # -- dead letters --------------------------------------------------------------------------------------

    def dead_letters(self, pipeline: str | None = None, *, limit: int = 100) -> list[DeadLetter]:
        """Return rows that can't be embedded as they are, oldest first; never with their text.

        pipeline: only this one's; None for all.
        limit: how many, at most.
        """
        with self._runtime() as runtime:
            if pipeline is not None:
                _require(runtime.database, pipeline)
            with runtime.database.transaction(read_only=True) as connection:
                return dead_letters.dead_letters(connection, pipeline, limit=limit)

    def requeue(self, pipeline: str, *, keys: Iterable[AnyKey] | None = None) -> int:
        """Try dead letters again, as if for the first time; returns how many.

        pipeline: its name.
        keys: only these, as `reembed` takes them; None for all of the pipeline. Raises Refused where none of them
            has a dead letter.
        """
        return self._change(pipeline, keys, dead_letters.requeue)

    def discard(self, pipeline: str, *, keys: Iterable[AnyKey] | None = None) -> int:
        """Set dead letters aside until their content changes; returns how many.

        pipeline: its name.
        keys: only these, as `reembed` takes them; None for all of the pipeline. Raises Refused where none of them
            has a dead letter.
        """
        return self._change(pipeline, keys, dead_letters.discard)

    def discard_bad_keys(self, pipeline: str) -> int:
        """Remove dead letters whose key can't become work; returns how many.

        pipeline: its name.
        """
        with self._runtime() as runtime:
            _require(runtime.database, pipeline)
            return runtime.database.retry_on_lock_conflict(
                lambda connection: dead_letters.discard_events(connection, pipeline)
            )

    # -- rows ----------------------------------------------------------------------------------------------

    def enqueue(self, pipeline: str, keys: Iterable[AnyKey]) -> int:
        """Have rows looked at again, as if they had changed, by all pipelines of their source; returns how many.

        pipeline: its name.
        keys: the rows' keys, as `reembed` takes them.

        Needs EXECUTE on the function pgvector_sync.enqueue and USAGE on its schema, and nothing else. To enqueue
        in a transaction of your own, call the function from SQL.
        """
        parts = [given_keys.plain_parts(key) for key in given_keys.every(keys)]
        with self._runtime(check_schema=False) as runtime:
            try:
                with runtime.database.transaction(durable=True) as connection:
                    outbox.enqueue(connection, pipeline, parts)
            except REFUSED_KEYS as error:
                raise Refused(str(error.diag.message_primary), hint=error.diag.message_hint) from None
        return len(parts)

    def search(self, pipeline: str, query: str, *, k: int = 5) -> list[Hit]:
        """Embed a query and return the nearest rows, nearest first; rows that are gone are never among them.

        pipeline: its name.
        query: what to look for, in words.
        k: how many rows, at most.

        Raises ProviderError where the provider can't be called: RateLimited, Unavailable, BrokenContract,
        Misconfigured or InputRejected.
        """
        with self._runtime() as runtime:
            return nearest(runtime, pipeline, query, k=k)

    def _change(
        self,
        pipeline: str,
        keys: Iterable[AnyKey] | None,
        action: Callable[[Connection, str, list[Key] | None], int],
    ) -> int:
        with self._runtime() as runtime:
            _require(runtime.database, pipeline)
            listed = None if keys is None else self._listed(runtime.database, pipeline, keys)
            count = runtime.database.retry_on_lock_conflict(
                lambda connection: action(connection, pipeline, listed)
            )
        if listed is not None and not count:
            raise Refused(
                "no dead letter has that key" if len(listed) == 1 else "no dead letter has one of these keys",
                hint=f"`pgvector-sync dead-letters list {pipeline}` shows those that there are; one that is set "
                "aside already stays so; keys that can't become work: `discard --bad-keys`",
            )
        return count

    def _listed(self, database: Database, pipeline: str, keys: Iterable[AnyKey]) -> list[Key]:
        return given_keys.canonical_keys(keys, _key_columns(database, pipeline))


def _key_columns(database: Database, pipeline: str) -> tuple[KeyColumn, ...]:
    with database.transaction(read_only=True) as connection:
        return pipelines.require_pipeline(connection, pipeline).source.key


def _require(database: Database, pipeline: str) -> None:
    with database.transaction(read_only=True) as connection:
        pipelines.require_pipeline(connection, pipeline)
