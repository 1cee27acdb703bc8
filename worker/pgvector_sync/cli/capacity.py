"""`capacity`: what a pipeline takes at another number of rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated

import typer
from rich.table import Table

from pgvector_sync.cli.console import out, print_document, print_table
from pgvector_sync.cli.environment import open_sync
from pgvector_sync.cli.sizes import parse_rows
from pgvector_sync.errors import ConfigError
from pgvector_sync.index.capacity import Capacity, StoragePlan
from pgvector_sync.index.phrases import size
from pgvector_sync.model.counted import counted


def register(app: typer.Typer) -> None:
    app.command()(capacity)


def capacity(
    pipeline: Annotated[str, typer.Argument(help="The pipeline's name.")],
    rows: Annotated[str, typer.Option("--rows", help="The number of rows, such as 250k or 10M.")],
    dimensions: Annotated[
        int | None, typer.Option("--dimensions", min=1, max=16_000, help="Default: the pipeline's.")
    ] = None,
    m: Annotated[
        int | None, typer.Option("-m", min=2, max=100, help="HNSW's m. Default: that of the index, or 16.")
    ] = None,
    built_rows: Annotated[
        str | None, typer.Option("--built-rows", help="The rows of an HNSW build that you have measured.")
    ] = None,
    built_seconds: Annotated[
        float | None, typer.Option("--built-seconds", min=0.001, help="How long that build took.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON document, see docs/json.md.")] = False,
) -> None:
    """Predict table, index, memory, WAL, build time and cost at another number of rows, per storage type."""
    wanted = parse_rows(rows)
    if (built_rows is None) != (built_seconds is None):
        raise ConfigError("expected both --built-rows and --built-seconds, or neither", where="capacity")
    built = None
    if built_rows is not None and built_seconds is not None:
        built = parse_rows(built_rows), timedelta(seconds=built_seconds)
    with open_sync() as sync:
        plan = sync.capacity(pipeline, wanted, dimensions=dimensions, m=m, built=built)
    if json:
        print_document({"capacity": plan})
    else:
        _show(plan, timed=built is not None)


def _show(plan: Capacity, *, timed: bool) -> None:
    out.print(f"{plan.pipeline}: {counted(plan.rows, 'row')} of {plan.dimensions:,} dimensions")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for each in plan.storages:
        table.add_column(each.storage, justify="right")
    lines: list[tuple[str, Callable[[StoragePlan], str]]] = [
        ("table", lambda each: size(each.table_bytes)),
        ("vectors out of line (TOAST)", lambda each: size(each.toast_bytes)),
        ("primary key, fingerprints", lambda each: size(each.key_index_bytes)),
        (f"HNSW index, m = {plan.m}", lambda each: _size(each.hnsw_bytes)),
        ("total with HNSW", lambda each: size(each.total_bytes)),
        (f"IVFFlat index, {plan.lists:,} lists", lambda each: _size(each.ivfflat_bytes)),
        ("WAL of backfill and HNSW build", lambda each: size(each.wal_bytes)),
        ("memory of the HNSW build", lambda each: _size(each.build_memory_bytes)),
    ]
    if timed:
        lines.append(("time of the HNSW build", lambda each: _time(each.build_time)))
    for label, cell in lines:
        table.add_row(label, *(cell(each) for each in plan.storages))
    print_table(table)
    out.print(f"cost: {_cost(plan)}")
    if not timed:
        out.print(
            "time of the HNSW build: unknown; build one over part of the rows on this machine, and pass "
            "--built-rows and --built-seconds"
        )
    out.print("bit: the table keeps the pipeline's vectors for re-ranking, and the index is over binary_quantize")


def _size(number: int | None) -> str:
    return "too many dimensions" if number is None else size(number)


def _time(duration: timedelta | None) -> str:
    return "-" if duration is None else f"about {timedelta(seconds=math.ceil(duration.total_seconds()))}"


def _cost(plan: Capacity) -> str:
    if plan.tokens_per_row is None:
        return "unknown, because the source has no texts yet to count tokens of"
    tokens = f"{plan.tokens_per_row:,.1f} tokens per row"
    if plan.usd is None:
        return f"unknown ({tokens}): set the model's price under [prices] in pgvector-sync.toml and apply"
    return f"${plan.usd:,.2f} ({tokens})"
