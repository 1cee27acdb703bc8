"""`reconcile`: find what has drifted, and enqueue it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import typer
from rich.table import Table

from pgvector_sync.cli import environment
from pgvector_sync.cli.console import complain, going_on_alone, out, print_json, print_table, progress, say
from pgvector_sync.cli.interrupts import Interrupts
from pgvector_sync.cli.keys import show_key
from pgvector_sync.errors import Refused
from pgvector_sync.model.request import Reconcile
from pgvector_sync.observe.waiting import find_run, refuse_to_wait_for_paused, wait_for, what_holds_up
from pgvector_sync.runs.reconcile import UNPLACED
from pgvector_sync.runs.requests import request_reconcile
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import drift, pipelines, runs
from pgvector_sync.store.drift import Drift
from pgvector_sync.store.runs import Run

KINDS = ("missing", "stale", "orphaned", "wrong_model", "broken", "incomplete", "stuck")


def register(app: typer.Typer) -> None:
    app.command()(reconcile)


def reconcile(
    pipeline: Annotated[str | None, typer.Argument(help="Only this one.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count and show what has drifted; enqueue nothing.")
    ] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Compare the texts and vectors as well: reads every row.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until what has drifted is repaired.")] = False,
    accept_orphans: Annotated[
        bool, typer.Option("--accept-orphans", help="However many vectors look orphaned: it is meant.")
    ] = False,
    trend: Annotated[
        bool, typer.Option("--trend", help="Show what earlier ones have found, and do nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="For machines; the shape is documented and stable.")
    ] = False,
) -> None:
    """Compare source and target from end to end; enqueue what has drifted, in the bulk lane."""
    with environment.runtime() as runtime:
        names = _names(runtime, pipeline)
        if trend:
            _trend(runtime, pipeline, as_json=as_json)
            return
        if wait or dry_run:
            refuse_to_wait_for_paused(runtime, names)
        with _own_runs(runtime, dry_run=dry_run) as own:
            requested = {}
            for name in names:
                asked = request_reconcile(runtime.database, name, Reconcile(deep, dry_run, accept_orphans))
                requested[name] = asked.run_id
                if not asked.joined:
                    own.append(asked.run_id)
            if not (wait or dry_run):
                _announce(requested, as_json=as_json)
                return
            ended = [_wait(runtime, name, run_id, dry_run=dry_run) for name, run_id in requested.items()]
    print_json(as_report(ended)) if as_json else _show(ended)
    _conclude(ended)


def _names(runtime: Runtime, pipeline: str | None) -> list[str]:
    with runtime.database.transaction(read_only=True) as connection:
        if pipeline is not None:
            return [pipelines.require_pipeline(connection, pipeline).name]
        found = [one.name for one in pipelines.all_pipelines(connection) if one.state != "removing"]
    if not found:
        raise Refused("no pipeline is declared", hint="write pgvector-sync.toml, then `pgvector-sync apply`")
    return found


@contextmanager
def _own_runs(runtime: Runtime, *, dry_run: bool) -> Iterator[list[int]]:
    """For the numbers of the runs that this command starts. Only it has a use for dry ones: where it is
    interrupted, they are cancelled, since they would keep the next reconciliation waiting.
    """
    started: list[int] = []
    if not dry_run:
        yield started
        return
    with Interrupts() as interrupts:
        try:
            yield started
        except BaseException:
            interrupts.ending()
            for run_id in started:
                runtime.database.patiently(
                    partial(runs.cancel, run_id=run_id)
                )  # one that has ended stays as it is
            raise


def _announce(requested: dict[str, int], *, as_json: bool) -> None:
    if as_json:
        print_json({"version": 1, "runs": requested})
        return
    for name, run_id in requested.items():
        out.print(
            f"{name}: run {run_id}; a worker or `pgvector-sync sync` carries it out, "
            f"`pgvector-sync runs show {run_id}` shows what it finds"
        )


def _wait(runtime: Runtime, name: str, run_id: int, *, dry_run: bool) -> Run:
    def silence(run: Run) -> None:
        if not dry_run and run.waiting:
            say(f"{run.waiting:,} rows wait: {what_holds_up(runtime, run)}")

    leaving = nullcontext() if dry_run else going_on_alone(run_id)
    with leaving, progress(f"comparing {name}", find_run(runtime, run_id).rows_total) as bar:
        return wait_for(
            runtime, run_id, on_progress=lambda run: bar.reach(run.rows_seen, run.rows_total), on_silence=silence
        )


def as_report(ended: list[Run]) -> dict[str, Any]:
    """The documented, stable shape."""
    return {
        "version": 1,
        "pipelines": [
            {
                "name": run.pipeline,
                "run": run.id,
                "state": run.state,
                "reason": run.reason,
                "deep": _asked(run).deep,
                "dry_run": _asked(run).dry_run,
                "rows": run.counts.get("rows", 0),
                "vectors": run.counts.get("vectors", 0),
                **{kind: run.counts.get(kind, 0) for kind in KINDS},
                UNPLACED: run.counts.get(UNPLACED, 0),
                "enqueued": run.rows_enqueued,
                "samples": {kind: run.samples.get(kind, []) for kind in KINDS},
            }
            for run in ended
        ],
    }


def _show(ended: list[Run]) -> None:
    _print_counts(("pipeline",), [((run.pipeline,), run.counts) for run in ended])
    for run in ended:
        for kind in KINDS:
            if keys := run.samples.get(kind):
                shown = ", ".join(show_key(key) for key in keys)
                more = " …" if run.counts[kind] > len(keys) else ""
                out.print(f"{run.pipeline}: {kind.replace('_', ' ')}: {shown}{more}")
        if unplaced := run.counts.get(UNPLACED):
            out.print(f"{run.pipeline}: {unplaced:,} of the orphaned are of partitions that are gone")
        if not _asked(run).deep:
            out.print(f"{run.pipeline}: texts and vectors were not compared: --deep does that")


def _conclude(ended: list[Run]) -> None:
    """Exit 1 where a dry run found drift, a row could not be repaired, or a run didn't come to its end."""
    failed = False
    for run in ended:
        dry = _asked(run).dry_run
        failed |= run.state != "finished" or (bool(_drifted(run)) if dry else bool(run.dead))
        if run.state != "finished":
            complain(f"{run.pipeline}: {run.reason or run.state}")
        elif dry and _drifted(run):
            complain(
                f"{run.pipeline}: {_drifted(run):,} have drifted",
                f"repair it: pgvector-sync reconcile {run.pipeline}" + (" --deep" if _asked(run).deep else ""),
            )
        elif run.dead:
            complain(
                f"{run.pipeline}: {_drifted(run):,} had drifted, of which {run.dead:,} became dead letters",
                f"see `pgvector-sync dead-letters list {run.pipeline}`",
            )
        elif _drifted(run):
            say(f"{run.pipeline}: repaired {_drifted(run):,} drifted rows")
    if failed:
        raise typer.Exit(1)


def _asked(run: Run) -> Reconcile:
    return run.request if isinstance(run.request, Reconcile) else Reconcile()


def _drifted(run: Run) -> int:
    return sum(run.counts.get(kind, 0) for kind in Drift)


def _trend(runtime: Runtime, pipeline: str | None, *, as_json: bool) -> None:
    with runtime.database.transaction(read_only=True) as connection:
        figures = drift.trend(connection, pipeline, limit=100)
    if as_json:
        print_json([asdict(one) for one in figures])
        return
    if not figures:
        out.print("nothing was reconciled yet")
        return
    _print_counts(
        ("at", "pipeline", "deep"),
        [((f"{one.at:%Y-%m-%d %H:%M}", one.pipeline, "yes" if one.deep else ""), asdict(one)) for one in figures],
    )


def _print_counts(labels: Sequence[str], lines: Sequence[tuple[Sequence[str], Mapping[str, Any]]]) -> None:
    """A kind of drift that nobody has is no column: it fits on a terminal, and says nothing about what a
    reconciliation without --deep doesn't look at.
    """
    kinds = [kind for kind in KINDS if any(counts.get(kind) for _, counts in lines)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for label in labels:
        table.add_column(label, no_wrap=True)
    for name in ("rows", "vectors", "drifted", *kinds):
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for cells, counts in lines:
        found = [counts.get(kind, 0) for kind in kinds]
        numbers = (counts.get("rows", 0), counts.get("vectors", 0), sum(found), *found)
        table.add_row(*cells, *(f"{number:,}" for number in numbers))
    print_table(table)
