"""`status`, `pause` and `resume`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from pgvector_sync.cli import health, probe
from pgvector_sync.cli.console import complain, out, print_document, print_table
from pgvector_sync.cli.environment import open_sync
from pgvector_sync.client.documents import fields_of
from pgvector_sync.client.results import Status
from pgvector_sync.errors import ConfigError
from pgvector_sync.observe.level import Level
from pgvector_sync.observe.status import PipelineStatus, truncated_texts
from pgvector_sync.observe.todo import state_of_workers, worst

COUNTS = ("rows", "fresh", "to_backfill", "waiting", "in_flight", "dead")
PipelineName = Annotated[str, typer.Argument(help="The pipeline's name.")]


def register(app: typer.Typer) -> None:
    app.command()(status)
    app.command("health", help=health.HELP)(check_health)
    app.command("probe", help=probe.HELP)(ask_process)
    app.command()(pause)
    app.command()(resume)


def status(
    pipeline: Annotated[str | None, typer.Argument(help="Show this pipeline only.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON document, see docs/json.md.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show the status live until q or Ctrl-C; in a log, write what changes.")
    ] = False,
    every: Annotated[
        str | None,
        typer.Option("--every", metavar="INTERVAL", help="With --watch: the refresh interval. Default: 1s."),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Count every row instead of estimating. Reads the whole source.")
    ] = False,
) -> None:
    """Show one line per pipeline: how many rows are fresh, waiting, in flight or dead, and why rows wait."""
    if every is not None and not watch:
        raise ConfigError("expected --watch with it", where="--every")
    if watch:
        from pgvector_sync.cli import watch as live

        return live.watch(pipeline, every=live.interval(every or "1s"), exact=exact, json=json)
    with open_sync() as sync:
        current = sync.status(pipeline, exact=exact)
    if json:
        print_document(fields_of(current))
        return None
    show(current.pipelines)
    out.print(_workers(current))
    return None


def show(statuses: Sequence[PipelineStatus]) -> None:
    """Print a table of the pipelines, and lines of reasons and limits."""
    if not statuses:
        out.print("no pipelines yet: propose one with `pgvector-sync init`, then run `pgvector-sync apply`")
        return
    print_table(_table(statuses))
    for line in _remarks(statuses):
        out.print(line)


def _table(statuses: Sequence[PipelineStatus]) -> Table:
    """Return one row per pipeline. Estimates are marked with a tilde."""
    fields = [name for name in COUNTS if name != "to_backfill" or any(item.to_backfill for item in statuses)]
    grid = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for name in ("pipeline", "state"):
        grid.add_column(name, no_wrap=True)
    for name in (*fields, "lag", "rows/s", "saved"):
        grid.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for item in statuses:
        numbers = [("~" if field in item.estimated else "") + f"{getattr(item, field):,}" for field in fields]
        lag = "" if item.lag is None else f"{item.lag.total_seconds():,.1f} s"
        rate, saved = f"{item.rows_per_second:,.1f}", f"{item.saved_inputs:,}"
        grid.add_row(item.name, item.state.value, *numbers, lag, rate, saved)
    return grid


def _remarks(statuses: Sequence[PipelineStatus]) -> list[str]:
    lines = [f"{item.name}: {item.reason}" for item in statuses if item.reason]
    cut = [item for item in statuses if item.truncated_inputs]
    lines += [f"{item.name}: {truncated_texts(item.truncated_inputs)} (last 7 days)" for item in cut]
    return lines + [_learned(item) for item in statuses if item.learned]


def _learned(status: PipelineStatus) -> str:
    settings = f" ({', '.join(status.learned_settings)})" if status.learned_settings else ""
    return f"{status.name}: learned: {', '.join(status.learned)}{settings}"


def _workers(status: Status) -> Text:
    checks = state_of_workers(status.workers, status.pipelines, redis=False)
    advised = [check.advice for check in checks if check.advice and check.level is Level.ERROR]
    text = "; ".join([*(check.seen for check in checks), *advised])
    return Text(text, "bold red" if worst(checks) is Level.ERROR else "")


def check_health(
    max_lag: Annotated[float | None, typer.Option("--max-lag", min=0, help=health.MAX_LAG_HELP)] = None,
    json: Annotated[bool, typer.Option("--json", help=health.JSON_HELP)] = False,
) -> None:
    """Shown by `--help` only: `main` runs the command without importing this module."""
    health.run([*([] if max_lag is None else ["--max-lag", str(max_lag)]), *(["--json"] if json else [])])


def ask_process(
    role: Annotated[str, typer.Argument(help="worker, beat or sync.")],
    live: Annotated[bool, typer.Option("--live", help=probe.LIVE_HELP)] = False,
    name: Annotated[str | None, typer.Option("--name", help=probe.NAME_HELP)] = None,
) -> None:
    """Shown by `--help` only: `main` runs the command without importing this module."""
    probe.run([role, *(["--live"] if live else []), *([] if name is None else ["--name", name])])


def pause(
    pipeline: PipelineName,
    reason: Annotated[str | None, typer.Option("--reason", help="A note that `status` shows.")] = None,
) -> None:
    """Stop embedding a pipeline. Changes are still captured and wait."""
    with open_sync() as sync:
        paused = sync.pause(pipeline, reason=reason)
    out.print(f"paused {pipeline}" if paused else f"{pipeline} is already paused")


def resume(pipeline: PipelineName) -> None:
    """End a pause, a cool-down or `misconfigured`.

    Exits 1 if the source, the target or the triggers still need a repair.
    """
    with open_sync() as sync:
        resumed = sync.resume(pipeline)
    out.print(f"resumed {pipeline}" if resumed.changed else f"{pipeline} is already active")
    for problem in resumed.problems:
        complain(f"{pipeline}: {problem}")
    if resumed.problems:
        raise typer.Exit(1)
