"""`index rehearse`: a pipeline at another number of rows, built and measured."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Annotated

import typer
from rich.table import Table

from pgvector_sync.cli.console import out, print_document, print_table, progress
from pgvector_sync.cli.environment import open_sync
from pgvector_sync.cli.index_goal import RECALL_HELP, LatencyMs, Memory, bytes_of, latency_of
from pgvector_sync.cli.interrupts import Interrupts
from pgvector_sync.cli.sizes import parse_rows
from pgvector_sync.index.phrases import size
from pgvector_sync.observe.rehearsed import Rehearsal


def add_to(group: typer.Typer) -> None:
    group.command("rehearse")(rehearse)


def rehearse(
    pipeline: Annotated[str, typer.Argument(help="The pipeline's name.")],
    rows: Annotated[str, typer.Option("--rows", help="The number of rows, such as 250k or 1M.")],
    recall: Annotated[
        float | None,
        typer.Option(
            "--recall",
            min=0.01,
            max=0.999,
            help=RECALL_HELP,
        ),
    ] = None,
    latency_ms: LatencyMs = None,
    memory: Memory = None,
    disk: Annotated[
        str | None, typer.Option("--disk", help="What table and index may take on the server. Default: 10GB.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Make other vectors.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON document, see docs/json.md.")] = False,
) -> None:
    """Grow the vectors in a schema of its own, build the advised index, and measure it.

    Exits 1 if no setting reaches the recall.
    """
    wanted = parse_rows(rows)
    with Interrupts(), open_sync() as sync, progress("rows", wanted) as bar:
        rehearsal = sync.index_rehearse(
            pipeline,
            wanted,
            recall=recall,
            latency=latency_of(latency_ms),
            memory=bytes_of(memory),
            disk=bytes_of(disk, "--disk"),
            seed=seed,
            progress=lambda what, done, total: bar.reach(done, total, what),
        )
    if json:
        print_document({"rehearsal": rehearsal})
    else:
        _show(rehearsal)
    if rehearsal.settings and rehearsal.smallest is None:
        raise typer.Exit(1)


def _show(rehearsal: Rehearsal) -> None:
    advised = rehearsal.advised
    out.print(
        f"{rehearsal.pipeline} at {rehearsal.rows:,} rows, {rehearsal.real_rows:,} of them real; the others are "
        f"copies of {rehearsal.bases:,} real vectors, moved among their neighbours"
    )
    ratio = rehearsal.distance_ratio
    if ratio is not None:
        out.print(f"the nearest neighbour of a row is {ratio:.2f} times as far away as that of a real vector")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "measured", "predicted"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("loading", _time(rehearsal.load_time), "")
    table.add_row("table", size(rehearsal.table_bytes), size(rehearsal.table_bytes_predicted))
    if rehearsal.index_bytes is not None and advised.bytes is not None:
        table.add_row(f"{advised.method} over {advised.storage}", size(rehearsal.index_bytes), size(advised.bytes))
        table.add_row("build", _time(rehearsal.build_time), _time(advised.build_time))
        table.add_row(
            "memory of the build", _size(rehearsal.build_memory_bytes), _size(advised.build_memory_bytes)
        )
    table.add_row("search that compares all vectors", f"{rehearsal.exact / timedelta(milliseconds=1):,.1f} ms", "")
    print_table(table)
    if not rehearsal.settings:
        out.print("no vector index is advised at this size: comparing all vectors is fast enough")
        return
    print_table(_settings(rehearsal))
    best = rehearsal.smallest
    out.print(
        f"no setting reaches {rehearsal.recall:g} with certainty"
        if best is None
        else f"smallest setting that reaches {rehearsal.recall:g}: {best.name} = {best.value}"
    )


def _settings(rehearsal: Rehearsal) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = (rehearsal.settings[0].name, "recall", "at least", "p5", "minimum", "p50 ms", "p95 ms", "p99 ms")
    for column in columns:
        table.add_column(column, justify="right")
    for each in rehearsal.settings:
        times = (f"{took / timedelta(milliseconds=1):,.1f}" for took in (each.p50, each.p95, each.p99))
        shares = (each.recall_mean, each.low, each.p5, each.minimum)
        table.add_row(str(each.value), *(f"{share:.3f}" for share in shares), *times)
    return table


def _time(duration: timedelta | None) -> str:
    return "unknown" if duration is None else str(timedelta(seconds=math.ceil(duration.total_seconds())))


def _size(number: int | None) -> str:
    return "-" if number is None else size(number)
