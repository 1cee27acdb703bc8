"""`index status`: the vector indexes of each target, and what to do."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from pgvector_sync.cli.console import out, print_document, print_table
from pgvector_sync.cli.environment import open_sync
from pgvector_sync.index.phrases import size
from pgvector_sync.model.counted import counted
from pgvector_sync.observe.indexes import IndexState, TargetIndexes
from pgvector_sync.observe.level import Level


def add_to(group: typer.Typer) -> None:
    group.command("status")(status)


def status(
    pipeline: Annotated[str | None, typer.Argument(help="Show the indexes of this pipeline only.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON document, see docs/json.md.")] = False,
) -> None:
    """Show size, use and faults of each vector index, and what to do. Exits 1 on an error."""
    with open_sync() as sync:
        targets = sync.index_status(pipeline)
    if json:
        print_document({"targets": targets})
    elif not targets:
        out.print("no pipelines yet")
    else:
        _show(targets)
    if any(target.level is Level.ERROR for target in targets):
        raise typer.Exit(1)


def _show(targets: tuple[TargetIndexes, ...]) -> None:
    for target in targets:
        out.print(
            f"{target.pipeline}: {target.target}, about {counted(target.rows, 'row')}, {target.dead_rows:,} dead, "
            f"{target.metric}, pgvector {target.pgvector or 'missing'}"
        )
        if target.indexes:
            print_table(_table(target))
        for finding in target.findings:
            out.print(f"{finding.level.value:8} {finding.seen}")
            for line in (finding.advice or "").splitlines():
                out.print(f"         → {line}")
        out.print()


def _table(target: TargetIndexes) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("index", "method", "operator class", "parameters", "state"):
        table.add_column(column)
    for column in ("size", "bytes per row", "scans", "in cache", "built"):
        table.add_column(column, justify="right")
    for index in target.indexes:
        ratio = index.cache_hit_ratio
        table.add_row(
            index.name,
            index.method,
            index.operator_class,
            ", ".join(index.parameters) or "defaults",
            _state(index),
            size(index.bytes),
            "unknown" if index.bytes_per_row is None else f"{index.bytes_per_row:,.0f}",
            "unknown" if index.scans is None else f"{index.scans:,}",
            "unknown" if ratio is None else f"{ratio:.0%}",
            "unknown" if index.built_at is None else f"{index.built_at:%Y-%m-%d %H:%M}",
        )
    return table


def _state(index: IndexState) -> str:
    return "being built" if index.building else "valid" if index.valid else "invalid"
