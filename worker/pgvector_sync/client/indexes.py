"""The methods of `Sync` about indexes: advice, builds, recall, state, and what a pipeline takes at other sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import time, timedelta
from typing import TYPE_CHECKING

from pgvector_sync.client.opening import Opening
from pgvector_sync.errors import Refused

if TYPE_CHECKING:
    from pgvector_sync.database import Connection
    from pgvector_sync.index.capacity import Capacity, Wanted
    from pgvector_sync.index.recall import RecallReport
    from pgvector_sync.index.requests import RequestedBuild
    from pgvector_sync.model import Pipeline
    from pgvector_sync.observe.index_advice import IndexAdvice
    from pgvector_sync.observe.index_builds import IndexBuild
    from pgvector_sync.observe.indexes import TargetIndexes
    from pgvector_sync.observe.rehearsed import Rehearsal
    from pgvector_sync.runtime import Runtime


class IndexMethods(Opening):
    """Inherited by `Sync`, which documents the errors that all methods raise."""

    def index_status(self, pipeline: str | None = None) -> tuple[TargetIndexes, ...]:
        """Return the vector indexes of each target, what is wrong with them and what to do, the worst first.

        pipeline: the name of one pipeline; None for all.
        """
        from pgvector_sync.observe.indexes import index_state

        with self._runtime() as runtime:
            return tuple(index_state(runtime.database, pipeline))

    def index_recall(
        self,
        pipeline: str,
        k: int = 10,
        *,
        queries: int | Sequence[str] | Sequence[Sequence[float]] = 200,
        logged: bool = False,
        where: str | None = None,
        sweep: bool = False,
        target: float | None = None,
        database_share: float | None = None,
        statement_timeout: timedelta | None = None,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> RecallReport:
        """Return which share of the true nearest neighbours a pipeline's index returns.

        pipeline: the pipeline's name.
        k: the number of neighbours, 1 to 1,000.
        queries: real queries, as texts, which are embedded, or as vectors of the pipeline's model; or a number of
            random rows whose vectors are the queries.
        logged: use the vectors of real queries that were sampled, see docs/search.md: the newest, as many as
            `queries` says.
        where: an SQL condition over the columns of the source, as for `search`.
        sweep: measure a range of settings, instead of those in effect.
        target: the recall for which the smallest setting is looked for; None for the pipeline's.
        database_share: the maximum share of one connection's time, 0 to 1; None for the pipeline's.
        statement_timeout: the time limit of one statement; None for ten seconds, or less if
            PGVECTOR_SYNC_DEADLINE is short.
        seed: chooses the random rows.
        progress: called with the number of queries that are done, and of all.

        The database is only read. Raises a subclass of ProviderError if a query can't be embedded.
        """
        from pgvector_sync.index.recall import RecallRequest
        from pgvector_sync.observe.recall import index_recall

        if isinstance(queries, str):
            raise Refused("expected a list of queries, got a string", hint=f"queries=[{queries!r}]")
        if logged and not isinstance(queries, int):
            raise Refused("expected either queries or logged ones, got both", hint="measure each kind by itself")
        request = RecallRequest(
            k=k,
            queries=queries if isinstance(queries, int) else len(queries),
            where=where,
            sweep=sweep,
            target=target,
            database_share=database_share,
            statement_timeout=statement_timeout,
            seed=seed,
        )
        with self._runtime() as runtime:
            given = None if isinstance(queries, int) else queries
            silent = progress or (lambda _done, _total: None)
            return index_recall(runtime, pipeline, request, given, silent, logged=logged)

    def index_advise(
        self,
        pipeline: str,
        *,
        recall: float | None = None,
        latency: timedelta | None = None,
        memory: int | None = None,
        where: str | None = None,
        measure: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> IndexAdvice:
        """Return which index a pipeline should have: none, HNSW or IVFFlat, with storage, parameters and reasons.

        pipeline: the pipeline's name.
        recall: the share of the nearest rows that searches must find; None for the pipeline's.
        latency: the time that a search may take in the database; None for 50 ms.
        memory: bytes that the index may take; None for the server's `effective_cache_size`.
        where: a condition of searches, in SQL, to see what Postgres does with it.
        measure: measure the recall of an index that exists, unless that would take several minutes.
        progress: called with the number of queries that are measured, and of all.

        Reads only: a sample of the vectors, and searches that compare all of them, two seconds each at most.
        """
        from pgvector_sync.index.facts import Goal
        from pgvector_sync.observe.index_advice import advice

        with self._runtime() as runtime:
            goal = Goal(
                recall=_recall(runtime, pipeline) if recall is None else recall, latency=latency, memory=memory
            )
            shown = progress or (lambda _done, _total: None)
            return advice(runtime, pipeline, goal, where=where, measuring=measure, progress=shown)

    def index_rehearse(
        self,
        pipeline: str,
        rows: int,
        *,
        recall: float | None = None,
        latency: timedelta | None = None,
        memory: int | None = None,
        disk: int | None = None,
        seed: int = 0,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Rehearsal:
        """Grow a pipeline's vectors to a number of rows, build the advised index over them, and measure it.

        pipeline: the pipeline's name.
        rows: the number of rows.
        recall: the share of the nearest rows that searches must find; None for the pipeline's.
        latency: the time that a search may take in the database; None for 50 ms.
        memory: bytes that the index may take; None for the server's `effective_cache_size`.
        disk: bytes that table and index may take on the server's disk; None for 10 GB.
        seed: chooses the vectors that are copied, and where the copies are moved.
        progress: called with what is being done, how much of it is done, and of how much.

        Everything is in a schema of its own, which is dropped at the end. Needs CREATE on the database.
        """
        from pgvector_sync.index.facts import Goal
        from pgvector_sync.observe.index_rehearsal import rehearse

        if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
            raise Refused(f"expected a number of rows, got {rows!r}", hint="1_000_000")
        shown = progress or (lambda _what, _done, _total: None)
        with self._runtime() as runtime:
            goal = Goal(
                recall=_recall(runtime, pipeline) if recall is None else recall, latency=latency, memory=memory
            )
            return rehearse(runtime, pipeline, rows, goal, disk=disk, seed=seed, progress=shown)

    def capacity(
        self,
        pipeline: str,
        rows: int,
        *,
        dimensions: int | None = None,
        m: int | None = None,
        built: tuple[int, timedelta] | None = None,
    ) -> Capacity:
        """Return what a pipeline takes at a number of rows: table, indexes, WAL, memory, time and cost.

        pipeline: the pipeline's name.
        rows: the number of rows to plan for.
        dimensions: of the vectors; None for the pipeline's.
        m: the parameter of HNSW; None for that of the pipeline's index, or 16.
        built: a measured build of an HNSW index, as rows and duration, from which the time is extrapolated.

        A sample of the source is read for the cost. No provider is called.
        """
        from pgvector_sync.embedding.prices import price_for
        from pgvector_sync.index import capacity as sizes
        from pgvector_sync.index.pages import default_lists
        from pgvector_sync.model.request import Reembed
        from pgvector_sync.runs.estimate import Selection, estimate_of
        from pgvector_sync.store import grants, pipelines

        with self._runtime() as runtime, runtime.database.transaction(read_only=True) as connection:
            stored = pipelines.require_pipeline(connection, pipeline)
            grants.require_sole_author(connection)
            wanted = _wanted(connection, stored, rows, dimensions=dimensions, m=m, built=built)
            cost = estimate_of(connection, runtime, stored, Selection(Reembed(None, False, False, True)))
            price = price_for(stored, runtime.settings)
        tokens, usd = sizes.mean_cost(rows, sampled=cost.rows, tokens=cost.tokens, price=price)
        return sizes.Capacity(
            pipeline=pipeline,
            rows=rows,
            dimensions=wanted.dimensions,
            m=wanted.m,
            lists=default_lists(rows),
            tokens_per_row=tokens,
            usd=usd,
            storages=sizes.storages(wanted),
        )

    def index_build(
        self,
        pipeline: str,
        *,
        rebuild: bool = False,
        window: tuple[time, time] | None = None,
        memory_bytes: int | None = None,
    ) -> RequestedBuild:
        """Request the build of a pipeline's vector index; a process of the targets' owner carries it out.

        pipeline: the pipeline's name. The index is the declared one, or HNSW with pgvector's default parameters.
        rebuild: replace an index of the same kind, which is dropped once the new one is complete.
        window: begin and end of the daily window (UTC) in which the build may begin; None for the declared one.
        memory_bytes: the `maintenance_work_mem` of the build; None for what the server's settings suggest.

        An identical build that is unfinished is joined (`joined`). Raises Refused if the index can't be built.
        """
        from pgvector_sync.index.requests import request_build

        with self._runtime() as runtime:
            return request_build(
                runtime.database, pipeline, window=window, rebuild=rebuild, memory_bytes=memory_bytes
            )

    def index_builds(self, pipeline: str | None = None, *, limit: int = 20) -> list[IndexBuild]:
        """Return builds of vector indexes, past and present, newest first.

        pipeline: the name of one pipeline; None for all.
        limit: the maximum number of builds.
        """
        from pgvector_sync.observe.index_builds import list_builds

        with self._runtime(pipeline) as runtime:
            return list_builds(runtime.database, pipeline, limit=limit)

    def index_cancel(self, pipeline: str) -> int:
        """Cancel the unfinished build of a pipeline's index, and return its id. Nothing of it stays.

        pipeline: the pipeline's name.
        """
        from pgvector_sync.index.requests import cancel_build

        with self._runtime() as runtime:
            return cancel_build(runtime.database, pipeline)

    def wait_for_index(
        self, build: int, *, carry_out: bool = False, on_progress: Callable[[IndexBuild], object] | None = None
    ) -> IndexBuild:
        """Wait until a build has ended, and return it.

        build: the id of the build.
        carry_out: build it in this process if no other does. This needs the rights of the target's owner, and a
            direct connection to the server. The build goes on in the server if this process ends.
        on_progress: called about once per second with the build.
        """
        from pgvector_sync.observe.index_builds import wait_for_build
        from pgvector_sync.runtime.bootstrap import open_build_database

        with self._runtime() as runtime, ExitStack() as opened:
            database = runtime.database
            if carry_out and runtime.settings.build_database_url is not None:
                database = opened.enter_context(open_build_database(runtime.settings))
            return wait_for_build(database, build, carry_out=carry_out, look=on_progress or (lambda _: None))


def _recall(runtime: Runtime, pipeline: str) -> float:
    """Return the recall that searches of a pipeline should have."""
    from pgvector_sync.store.pipelines import require_pipeline

    with runtime.database.transaction(read_only=True) as connection:
        return require_pipeline(connection, pipeline).options.index.recall


def _wanted(
    connection: Connection,
    pipeline: Pipeline,
    rows: int,
    *,
    dimensions: int | None,
    m: int | None,
    built: tuple[int, timedelta] | None,
) -> Wanted:
    from pgvector_sync.index import capacity as sizes
    from pgvector_sync.index.pages import DEFAULT_M
    from pgvector_sync.model import Storage
    from pgvector_sync.store import index_status
    from pgvector_sync.store.catalog import find_relation

    source = find_relation(connection, pipeline.source.schema, pipeline.source.table)
    if source is None:
        raise Refused(f"the source {pipeline.source.label} doesn't exist", hint="pgvector-sync doctor")
    target = find_relation(connection, pipeline.target_schema, pipeline.target_table)
    indexes = [] if target is None else index_status.vector_indexes(connection, target)
    widths = index_status.key_widths(connection, source, [column.name for column in pipeline.source.key])
    declared = (index.parameter("m") for index in indexes if index.method == "hnsw")
    return sizes.Wanted(
        rows=rows,
        dimensions=dimensions or pipeline.spec.dimensions,
        m=m or next((each for each in declared if each is not None), DEFAULT_M),
        key=sizes.key_parts([(each.length, each.alignment, each.type, each.average_width) for each in widths]),
        model=pipeline.spec.model,
        column=Storage(pipeline.options.vector_type.value),
        build=None if built is None else sizes.Build(*built),
    )
