"""`runs`: backfills, re-embeds and reconciliations."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from pgvector_sync.cli.console import out, print_document, print_table
from pgvector_sync.cli.environment import open_sync
from pgvector_sync.cli.keys import show_key
from pgvector_sync.model.request import Request, Unreadable, options_of
from pgvector_sync.store.drift import Drift
from pgvector_sync.store.runs import Run

Number = Annotated[int, typer.Argument(help="Its number.")]
Json = Annotated[bool, typer.Option("--json", help="Print a JSON document, see docs/json.md.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Backfills, re-embeds and reconciliations: see how far they are, or stop one.")
    group.command("list")(show_all)
    group.command("show")(show)
    group.command()(cancel)
    app.add_typer(group, name="runs", no_args_is_help=True)


def show_all(
    pipeline: Annotated[str | None, typer.Argument(help="Only this one's.")] = None,
    as_json: Json = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, newest first.")] = 20,
) -> None:
    """Show them, newest first."""
    with open_sync() as sync:
        found = sync.runs(pipeline, limit=limit)
    if as_json:
        print_document({"runs": found})
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", justify="right")
    for name in ("pipeline", "kind", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("seen", "of", "enqueued", "waiting", "dead"):
        table.add_column(name, justify="right")
    table.add_column("started", no_wrap=True)
    for run in found:
        total = "" if run.rows_total is None else f"{run.rows_total:,}"
        counts = (f"{run.rows_seen:,}", total, f"{run.rows_enqueued:,}", f"{run.waiting:,}", f"{run.dead:,}")
        table.add_row(str(run.id), run.pipeline, run.kind, run.state, *counts, f"{run.started_at:%m-%d %H:%M}")
    print_table(table) if found else out.print("no run yet")


def show(run: Number, as_json: Json = False) -> None:
    """Show one: what was asked for, how far it is, what it found."""
    with open_sync() as sync:
        found = sync.run(run)
    if as_json:
        print_document({"run": found})
        return
    total = "" if found.rows_total is None else f" of {found.rows_total:,}"
    counts = f"{found.rows_enqueued:,} enqueued, {found.waiting:,} waiting, {found.dead:,} dead"
    lines = [
        ("run", f"{found.id}, {found.kind} of {found.pipeline}"),
        ("state", found.state + (f": {found.reason}" if found.reason else "")),
        ("asked for", f"{_words_of(found.request)}, by {found.requested_by}"),
        ("rows", f"{found.rows_seen:,} seen{total}, {counts}"),
        ("started", f"{found.started_at:%Y-%m-%d %H:%M:%S %Z}"),
        ("ended", f"{found.finished_at:%Y-%m-%d %H:%M:%S %Z}" if found.finished_at else "not yet"),
    ]
    lines += [
        (kind.replace("_", " "), f"{found.counts[kind]:,}" + _sample(found, kind))
        for kind in ("vectors", *Drift)
        if kind in found.counts
    ]
    for label, value in lines:
        out.print(f"{label:12}{value}")


def cancel(run: Number) -> None:
    """Enqueue no more; what waits already is looked at, and not paid for twice."""
    with open_sync() as sync:
        sync.cancel(run)
    out.print(f"run {run} is cancelled")


def _words_of(request: Request | Unreadable) -> str:
    if isinstance(request, Unreadable):
        return f"unreadable ({request.reason})"
    return ", ".join(f"{name} {value}" for name, value in options_of(request).items()) or "every row"


def _sample(run: Run, kind: str) -> str:
    keys = run.samples.get(kind)
    return ": " + ", ".join(show_key(key) for key in keys) if keys else ""
