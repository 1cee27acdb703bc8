"""`reconcile`: find what has drifted, and enqueue it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from pgvector_sync.cli.console import complain, going_on_alone, out, print_document, print_table, progress, say
from pgvector_sync.cli.environment import open_sync
from pgvector_sync.cli.interrupts import Interrupts
from pgvector_sync.cli.keys import show_key
from pgvector_sync.client.results import Reconciliation
from pgvector_sync.client.sync import Sync
from pgvector_sync.errors import Refused
from pgvector_sync.runs.requests import Requested
from pgvector_sync.store.drift import Figures
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
        bool, typer.Option("--accept-orphans", help="Remove orphaned vectors even above `orphan_share`.")
    ] = False,
    trend: Annotated[
        bool, typer.Option("--trend", help="Show what earlier ones have found, and do nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document, see docs/json.md.")] = False,
) -> None:
    """Compare source and target from end to end; enqueue what has drifted, in the bulk lane."""
    with open_sync() as sync:
        if trend:
            _trend(sync.reconciliations(pipeline), as_json=as_json)
            return
        names = [pipeline] if pipeline is not None else _all(sync)
        if wait or dry_run:
            sync.require_unpaused(*names)
        with _own_runs(sync, dry_run=dry_run) as own:
            requested = []
            for name in names:
                asked = sync.reconcile(name, deep=deep, dry_run=dry_run, accept_orphans=accept_orphans)
                requested.append(asked)
                if not asked.joined:
                    own.append(asked.run_id)
            if not (wait or dry_run):
                _announce(requested, as_json=as_json)
                return
            ended = [_wait(sync, asked, dry_run=dry_run) for asked in requested]
    print_document({"reconciliations": ended}) if as_json else _show(ended)
    for found in ended:
        _conclude(found)
    if not all(found.succeeded for found in ended):
        raise typer.Exit(1)


def _all(sync: Sync) -> tuple[str, ...]:
    found = sync.pipelines()
    if not found:
        raise Refused("no pipeline is declared", hint="write pgvector-sync.toml, then `pgvector-sync apply`")
    return found


@contextmanager
def _own_runs(sync: Sync, *, dry_run: bool) -> Iterator[list[int]]:
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
                with suppress(Refused):  # it has ended
                    sync.cancel(run_id)
            raise


def _announce(requested: list[Requested], *, as_json: bool) -> None:
    if as_json:
        print_document({"requested": requested})
        return
    for asked in requested:
        out.print(
            f"{asked.pipeline}: run {asked.run_id}; a worker or `pgvector-sync sync` carries it out, "
            f"`pgvector-sync runs show {asked.run_id}` shows what it finds"
        )


def _wait(sync: Sync, asked: Requested, *, dry_run: bool) -> Reconciliation:
    def silence(run: Run, reason: str) -> None:
        if not dry_run and run.waiting:
            say(f"{run.waiting:,} rows wait: {reason}")

    leaving = nullcontext() if dry_run else going_on_alone(asked.run_id)
    with leaving, progress(f"comparing {asked.pipeline}", sync.run(asked.run_id).rows_total) as bar:
        ended = sync.wait(
            asked.run_id,
            carry_out=True,
            on_progress=lambda run: bar.reach(run.rows_seen, run.rows_total),
            on_silence=silence,
        )
    return Reconciliation.of(ended)


def _show(ended: list[Reconciliation]) -> None:
    _print_counts(("pipeline",), [((found.pipeline,), asdict(found)) for found in ended])
    for found in ended:
        for kind in KINDS:
            if keys := found.samples[kind]:
                shown = ", ".join(show_key(key) for key in keys)
                more = " …" if getattr(found, kind) > len(keys) else ""
                out.print(f"{found.pipeline}: {kind.replace('_', ' ')}: {shown}{more}")
        if found.unplaced:
            out.print(f"{found.pipeline}: {found.unplaced:,} of the orphaned are of partitions that are gone")
        if not found.deep:
            out.print(f"{found.pipeline}: texts and vectors were not compared: --deep does that")


def _conclude(found: Reconciliation) -> None:
    name, drifted = found.pipeline, found.drifted
    if found.state != "finished":
        complain(f"{name}: {found.reason or found.state}")
    elif found.dry_run and drifted:
        repair = f"pgvector-sync reconcile {name}" + (" --deep" if found.deep else "")
        complain(f"{name}: {drifted:,} have drifted", f"repair it: {repair}")
    elif found.dead:
        complain(
            f"{name}: {drifted:,} had drifted, of which {found.dead:,} became dead letters",
            f"see `pgvector-sync dead-letters list {name}`",
        )
    elif drifted:
        say(f"{name}: repaired {drifted:,} drifted rows")


def _trend(figures: list[Figures], *, as_json: bool) -> None:
    if as_json:
        print_document({"reconciliations": figures})
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
