"""`status`, `pause` and `resume`."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table

from pgvector_sync.cli import environment
from pgvector_sync.cli.console import out, print_json
from pgvector_sync.operate.status import PipelineStatus, as_json, read_status
from pgvector_sync.store import pipelines
from pgvector_sync.sync.runtime import Runtime

COUNTS = ("rows", "fresh", "unfilled", "waiting", "in_flight", "dead")
PipelineName = Annotated[str, typer.Argument(help="Its name.")]


def register(app: typer.Typer) -> None:
    app.command()(status)
    app.command()(pause)
    app.command()(resume)


def status(
    pipeline: Annotated[str | None, typer.Argument(help="Only this one.")] = None,
    json: Annotated[
        bool, typer.Option("--json", help="For machines; the shape is documented and stable.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Every second, until Ctrl-C.")] = False,
    exact: Annotated[bool, typer.Option("--exact", help="Count every row: reads the whole source.")] = False,
) -> None:
    """A row a pipeline: how many rows are fresh, waiting, in flight or dead, and why it waits."""
    with environment.runtime() as runtime:
        if not watch:
            found = _read(runtime, pipeline, exact=exact)
            print_json(as_json(found)) if json else out.print(table(found))
            return
        if json or not out.is_terminal:
            while True:
                found = _read(runtime, pipeline, exact=exact)
                print_json(as_json(found)) if json else out.print(table(found))
                time.sleep(1)
        with Live(console=out, auto_refresh=False) as live:
            while True:
                live.update(table(_read(runtime, pipeline, exact=exact)), refresh=True)
                time.sleep(1)


def _read(runtime: Runtime, pipeline: str | None, *, exact: bool) -> list[PipelineStatus]:
    limit = runtime.settings.text_limit_bytes if exact else None
    return read_status(runtime.database, pipeline, exact_text_limit=limit)


def table(statuses: list[PipelineStatus]) -> Group:
    """Estimates carry a tilde."""
    fields = [name for name in COUNTS if name != "unfilled" or any(item.unfilled for item in statuses)]
    shown = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for name in ("pipeline", "state"):
        shown.add_column(name, no_wrap=True)
    for name in (*fields, "lag", "rows/s", "saved"):
        shown.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for item in statuses:
        numbers = [("~" if field in item.estimated else "") + f"{getattr(item, field):,}" for field in fields]
        lag = "" if item.lag_seconds is None else f"{item.lag_seconds:,.1f} s"
        rate, saved = f"{item.rows_per_second:,.1f}", f"{item.saved_inputs:,}"
        shown.add_row(item.name, item.state.value, *numbers, lag, rate, saved)
    if not statuses:
        shown.add_row("no pipeline yet: write pgvector-sync.toml, then `pgvector-sync apply`")
    reasons = [f"{item.name}: {item.reason}" for item in statuses if item.reason]
    return Group(shown, *reasons)


def pause(
    pipeline: PipelineName,
    reason: Annotated[str | None, typer.Option("--reason", help="Shown by `status`.")] = None,
) -> None:
    """Stop embedding for a pipeline; changes are still captured and wait."""
    with environment.runtime() as runtime:
        with runtime.database.transaction(read_only=True) as connection:
            pipelines.require_pipeline(connection, pipeline)
        paused = runtime.database.patiently(lambda c: pipelines.pause(c, pipeline, reason))
    out.print(f"{pipeline} is paused" if paused else f"{pipeline} was paused already", markup=False)


def resume(pipeline: PipelineName) -> None:
    """Go on, whatever had stopped it: a pause, a cool-down, a mended configuration."""
    with environment.runtime() as runtime:
        with runtime.database.transaction(read_only=True) as connection:
            pipelines.require_pipeline(connection, pipeline)
        resumed = runtime.database.patiently(lambda c: pipelines.resume(c, pipeline))
    out.print(f"{pipeline} goes on" if resumed else f"{pipeline} was running already", markup=False)
