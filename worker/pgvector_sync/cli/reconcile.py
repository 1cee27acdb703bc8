"""`reconcile`: find drifted rows and enqueue them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, fields
from typing import Annotated, Any

import typer
from rich.table import Table

from pgvector_sync.cli.console import (
    announcing_background_run,
    announcing_requests,
    complain,
    out,
    print_document,
    print_table,
    progress,
    say,
)
from pgvector_sync.cli.environment import open_sync
from pgvector_sync.cli.interrupts import Interrupts
from pgvector_sync.client.keys import show_key
from pgvector_sync.client.results import Reconciliation
from pgvector_sync.client.sync import Sync
from pgvector_sync.errors import Refused
from pgvector_sync.model.counted import counted
from pgvector_sync.runs.requests import Requested
from pgvector_sync.store.drift import Drift, Figures
from pgvector_sync.store.runs import Run

KINDS = tuple(field.name for field in fields(Reconciliation) if field.name in set(Drift))
"""In the order of a result's fields."""


def register(app: typer.Typer) -> None:
    app.command()(reconcile)


def reconcile(
    pipeline: Annotated[str | None, typer.Argument(help="Reconcile this pipeline only.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count and list drifted rows without enqueueing them.")
    ] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Also compare texts and vectors. Reads every row.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until every drifted row has been repaired.")] = False,
    accept_orphans: Annotated[
        bool, typer.Option("--accept-orphans", help="Remove orphaned vectors even above `orphan_share`.")
    ] = False,
    trend: Annotated[
        bool, typer.Option("--trend", help="Only show the results of earlier reconciliations.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document, see docs/json.md.")] = False,
) -> None:
    """Compare every row of the source with the target, and enqueue drifted rows in the bulk lane."""
    with open_sync() as sync:
        if trend:
            _trend(sync.reconciliations(pipeline), as_json=as_json)
            return
        names = [pipeline] if pipeline is not None else _all(sync)
        if wait or dry_run:
            sync.require_unpaused(*names)
        with _own_runs(sync, dry_run=dry_run) as own:
            requested = []
            with nullcontext() if dry_run else announcing_requests():
                for name in names:
                    run = sync.reconcile(name, deep=deep, dry_run=dry_run, accept_orphans=accept_orphans)
                    requested.append(run)
                    if not run.joined:
                        own.append(run.run_id)
            if not (wait or dry_run):
                _announce(requested, as_json=as_json)
                return
            results = [_wait(sync, run, dry_run=dry_run) for run in requested]
    print_document({"reconciliations": results}) if as_json else _show(results)
    for result in results:
        _conclude(result)
    if not all(result.succeeded for result in results):
        raise typer.Exit(1)


def _all(sync: Sync) -> tuple[str, ...]:
    names = sync.pipelines()
    if not names:
        raise Refused("no pipeline is declared", hint="write pgvector-sync.toml, then run `pgvector-sync apply`")
    return names


@contextmanager
def _own_runs(sync: Sync, *, dry_run: bool) -> Iterator[list[int]]:
    """Yield a list for the numbers of the runs that this command starts.

    On an interrupt, dry runs are cancelled: their results would be lost, and they would block the next
    reconciliation.
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
                with suppress(Refused):  # the run has ended
                    sync.cancel(run_id)
            raise


def _announce(requested: list[Requested], *, as_json: bool) -> None:
    if as_json:
        print_document({"requested": requested})
        return
    for run in requested:
        out.print(
            f"{run.pipeline}: requested run {run.run_id}, carried out by a worker or `pgvector-sync sync`; "
            f"show results: pgvector-sync runs show {run.run_id}"
        )


def _wait(sync: Sync, requested: Requested, *, dry_run: bool) -> Reconciliation:
    def silence(run: Run, reason: str) -> None:
        if not dry_run and run.waiting:
            say(f"{counted(run.waiting, 'row is waiting', 'rows are waiting')}: {reason}")

    on_interrupt = nullcontext() if dry_run else announcing_background_run(requested.run_id)
    with on_interrupt, progress(f"comparing {requested.pipeline}", sync.run(requested.run_id).rows_total) as bar:
        ended = sync.wait(
            requested.run_id,
            carry_out=True,
            on_progress=lambda run: bar.reach(run.rows_seen, run.rows_total),
            on_silence=silence,
        )
    return Reconciliation.of(ended)


def _show(results: list[Reconciliation]) -> None:
    _print_counts(("pipeline",), [((result.pipeline,), asdict(result)) for result in results])
    for result in results:
        for kind in KINDS:
            if keys := result.samples[kind]:
                shown = ", ".join(show_key(key) for key in keys)
                more = " …" if getattr(result, kind) > len(keys) else ""
                out.print(f"{result.pipeline}: {kind.replace('_', ' ')}: {shown}{more}")
        if result.unplaced:
            out.print(
                f"{result.pipeline}: {result.unplaced:,} orphaned vectors are of partitions that no longer exist"
            )
        if not result.deep:
            out.print(f"{result.pipeline}: texts and vectors were not compared; use --deep to compare them")


def _conclude(result: Reconciliation) -> None:
    name, drifted = result.pipeline, result.drifted
    if result.state != "finished":
        complain(f"{name}: {result.reason or result.state}")
    elif result.dry_run and drifted:
        repair = f"pgvector-sync reconcile {name}" + (" --deep" if result.deep else "")
        have = counted(drifted, "row has", "rows have")
        complain(f"{name}: {have} drifted", f"repair them: {repair}")
    elif result.dead:
        complain(
            f"{name}: {counted(drifted, 'row')} had drifted; {result.dead:,} of them became dead letters",
            f"list them: pgvector-sync dead-letters list {name}",
        )
    elif drifted:
        say(f"{name}: repaired {counted(drifted, 'drifted row')}")


def _trend(figures: list[Figures], *, as_json: bool) -> None:
    if as_json:
        print_document({"reconciliations": figures})
        return
    if not figures:
        out.print("no reconciliation yet")
        return
    _print_counts(
        ("at", "pipeline", "deep"),
        [((f"{row.at:%Y-%m-%d %H:%M}", row.pipeline, "yes" if row.deep else ""), asdict(row)) for row in figures],
    )


def _print_counts(labels: Sequence[str], lines: Sequence[tuple[Sequence[str], Mapping[str, Any]]]) -> None:
    """Print a table with a column per kind of drift that occurs.

    Kinds that don't occur are left out, so that the table fits on a terminal and shows no zeros for kinds that
    only --deep compares.
    """
    kinds = [kind for kind in KINDS if any(counts.get(kind) for _, counts in lines)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for label in labels:
        table.add_column(label, no_wrap=True)
    for name in ("rows", "vectors", "drifted", *kinds):
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for cells, counts in lines:
        drifted = [counts.get(kind, 0) for kind in kinds]
        numbers = (counts.get("rows", 0), counts.get("vectors", 0), sum(drifted), *drifted)
        table.add_row(*cells, *(f"{number:,}" for number in numbers))
    print_table(table)
