"""`runs list / show / cancel`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from pgvector_sync.cli.console import out, print_document, print_table
from pgvector_sync.cli.environment import open_sync
from pgvector_sync.client.keys import show_key
from pgvector_sync.model.request import Request, Unreadable, options_of
from pgvector_sync.store.drift import Drift
from pgvector_sync.store.runs import Run

Number = Annotated[int, typer.Argument(help="The run's number.")]
Json = Annotated[bool, typer.Option("--json", help="Print a JSON document, see docs/json.md.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="List, show or cancel runs: backfills, re-embeds and reconciliations.")
    group.command("list")(show_all)
    group.command("show")(show)
    group.command()(cancel)
    app.add_typer(group, name="runs", no_args_is_help=True)


def show_all(
    pipeline: Annotated[str | None, typer.Argument(help="List runs of this pipeline only.")] = None,
    as_json: Json = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The maximum number to list.")] = 20,
) -> None:
    """List runs, newest first."""
    with open_sync() as sync:
        runs = sync.runs(pipeline, limit=limit)
    if as_json:
        print_document({"runs": runs})
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", justify="right")
    for name in ("pipeline", "kind", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("seen", "of", "enqueued", "waiting", "dead"):
        table.add_column(name, justify="right")
    table.add_column("started", no_wrap=True)
    for run in runs:
        total = "" if run.rows_total is None else f"{run.rows_total:,}"
        counts = (f"{run.rows_seen:,}", total, f"{run.rows_enqueued:,}", f"{run.waiting:,}", f"{run.dead:,}")
        table.add_row(str(run.id), run.pipeline, run.kind, run.state, *counts, f"{run.started_at:%m-%d %H:%M}")
    print_table(table) if runs else out.print("no runs yet")


def show(run: Number, as_json: Json = False) -> None:
    """Show the request, progress and results of a run."""
    with open_sync() as sync:
        shown = sync.run(run)
    if as_json:
        print_document({"run": shown})
        return
    total = "" if shown.rows_total is None else f" of {shown.rows_total:,}"
    counts = f"{shown.rows_enqueued:,} enqueued, {shown.waiting:,} waiting, {shown.dead:,} dead"
    lines = [
        ("run", f"{shown.id}, {shown.kind} of {shown.pipeline}"),
        ("state", shown.state + (f": {shown.reason}" if shown.reason else "")),
        ("requested", f"{_describe(shown.request)}, by {shown.requested_by}"),
        ("rows", f"{shown.rows_seen:,} seen{total}, {counts}"),
        ("started", f"{shown.started_at:%Y-%m-%d %H:%M:%S %Z}"),
        ("ended", f"{shown.finished_at:%Y-%m-%d %H:%M:%S %Z}" if shown.finished_at else "not yet"),
    ]
    lines += [
        (kind.replace("_", " "), f"{shown.counts[kind]:,}" + _sample(shown, kind))
        for kind in ("vectors", *Drift)
        if kind in shown.counts
    ]
    for label, value in lines:
        out.print(f"{label:12}{value}")


def cancel(run: Number) -> None:
    """Stop a run from enqueueing more rows. Rows that it has enqueued are still processed."""
    with open_sync() as sync:
        sync.cancel(run)
    out.print(f"cancelled run {run}")


def _describe(request: Request | Unreadable) -> str:
    if isinstance(request, Unreadable):
        return f"unreadable ({request.reason})"
    return ", ".join(f"{name} {value}" for name, value in options_of(request).items()) or "every row"


def _sample(run: Run, kind: str) -> str:
    keys = run.samples.get(kind)
    return ": " + ", ".join(show_key(key) for key in keys) if keys else ""
