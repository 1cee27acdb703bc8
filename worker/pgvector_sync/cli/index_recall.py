"""`index recall`: which share of the true nearest neighbours an index returns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from math import floor
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pgvector_sync.cli.console import out, print_document, print_table, progress, say
from pgvector_sync.cli.environment import open_sync
from pgvector_sync.cli.interrupts import Interrupts
from pgvector_sync.cli.query_file import read_queries
from pgvector_sync.errors import ConfigError
from pgvector_sync.index.plot import recall_plot
from pgvector_sync.index.recall import RecallReport, SettingResult

_SOURCES = {"rows": "vectors of random rows", "file": "from a file", "logged": "sampled from applications"}


def add_to(group: typer.Typer) -> None:
    group.command("recall")(recall)


def recall(
    pipeline: Annotated[str, typer.Argument(help="The pipeline's name.")],
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="The number of neighbours.")] = 10,
    queries: Annotated[
        int | None,
        typer.Option("--queries", min=1, max=10_000, help="Use N random rows, or logged queries. Default: 200."),
    ] = None,
    queries_file: Annotated[
        Path | None,
        typer.Option(
            "--queries-file",
            help="Use these queries: texts, one per line, which are embedded and paid for, or JSON vectors.",
        ),
    ] = None,
    logged: Annotated[
        bool, typer.Option("--logged", help="Use the newest sampled queries of applications, see docs/search.md.")
    ] = False,
    where: Annotated[
        str | None, typer.Option("--filter", help="Find only rows for which this SQL condition is true.")
    ] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Measure a range of settings, instead of those in effect.")
    ] = False,
    target: Annotated[
        float | None,
        typer.Option(
            "--target", help="Exit with 1 if no setting reaches this recall. Default: show the pipeline's."
        ),
    ] = None,
    share: Annotated[
        float | None,
        typer.Option("--database-share", help="The share of a connection's time to use. Default: the pipeline's."),
    ] = None,
    statement_timeout: Annotated[
        float | None, typer.Option("--statement-timeout", min=0.001, help="Seconds per statement. Default: 10.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Choose other random rows.")] = 0,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Write a picture of recall against latency, as SVG.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON document, see docs/json.md.")] = False,
) -> None:
    """Measure which share of the true nearest neighbours an index returns, and how long searches take."""
    if queries_file is not None and (queries is not None or logged):
        other = "--logged" if logged else "--queries"
        raise ConfigError(f"expected {other} or --queries-file, got both", where="index recall")
    asked: int | Sequence[str] | Sequence[Sequence[float]] = queries or 200
    if queries_file is not None:
        asked = read_queries(queries_file)
    with _left_as_it_was(plot), Interrupts(), open_sync() as sync, progress("queries", None) as bar:
        report = sync.index_recall(
            pipeline,
            k,
            queries=asked,
            logged=logged,
            where=where,
            sweep=sweep,
            target=target,
            database_share=share,
            statement_timeout=None if statement_timeout is None else timedelta(seconds=statement_timeout),
            seed=seed,
            progress=bar.reach,
        )
    if plot is not None:
        plot.write_text(recall_plot(report), "utf-8")
        say(f"wrote {plot}")
    if json:
        print_document({"recall": report})
    else:
        _show(report, swept=sweep)
    if target is not None and report.smallest is None:
        raise typer.Exit(1)


@contextmanager
def _left_as_it_was(plot: Path | None) -> Iterator[None]:
    """Fail before the measurement if the file can't be written; leave no empty one if the measurement fails."""
    if plot is None:
        yield
        return
    existed = plot.exists()
    try:
        with plot.open("a", encoding="utf-8"):
            pass
    except OSError as error:
        raise ConfigError(error.strerror or "it can't be written", where=str(plot)) from None
    try:
        yield
    except BaseException:
        if not existed:
            plot.unlink(missing_ok=True)
        raise


def _show(report: RecallReport, *, swept: bool) -> None:
    where = "" if report.where is None else " that meet the condition"
    out.print(
        f"{report.pipeline}: {report.index.name} ({report.index.method.value} of {report.index.storage.value}), "
        f"{report.rows:,} vectors{where}, {report.k:,} nearest, {report.settings[0].queries:,} queries "
        f"({_SOURCES[report.source_of_queries]})"
    )
    print_table(_table(report))
    best = report.smallest
    if best is not None:
        out.print(
            f"smallest setting that reaches {report.target:g}: {best.name} = {best.value}, "
            f"iterative scan {best.iterative} (recall at least {best.low:.3f})"
        )
    else:
        most = max(report.settings, key=lambda each: each.low)
        out.print(
            f"no setting reaches {report.target:g} with certainty: the highest recall is {most.recall_mean:.3f}, "
            f"at least {floor(most.low * 1_000) / 1_000:.3f}, with {most.name} = {most.value}, iterative scan "
            f"{most.iterative}"
        )
        out.print(f"  → {_what_next(report, most, swept=swept)}")
    for finding in report.findings:
        out.print(f"note: {finding}")


def _what_next(report: RecallReport, most: SettingResult, *, swept: bool) -> str:
    """Return what may reach the target, the cheapest first."""
    command = f"pgvector-sync index recall {report.pipeline}"
    if not swept:
        return f"try more: {command} --sweep"
    if most.recall_mean > report.target:
        return "ask more queries, which narrows the interval: --queries, or a longer file"
    return f"build a better index: pgvector-sync index advise {report.pipeline} --recall {report.target:g}"


def _table(report: RecallReport) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(report.settings[0].name, justify="right")
    table.add_column("iterative scan")
    for column in ("recall", "interval (95 %)", "p5", "minimum", "rows", "p50", "p95", "p99"):
        table.add_column(column, justify="right")
    table.add_column("")
    for each in report.settings:
        table.add_row(
            str(each.value),
            each.iterative,
            f"{each.recall_mean:.3f}",
            f"{each.low:.3f} to {each.high:.3f}",
            f"{each.p5:.2f}",
            f"{each.minimum:.2f}",
            f"{each.rows_returned_mean:.1f}",
            *(_milliseconds(duration) for duration in (each.p50, each.p95, each.p99)),
            _remark(report, each),
        )
    return table


def _milliseconds(duration: timedelta) -> str:
    return f"{duration / timedelta(milliseconds=1):,.2f} ms"


def _remark(report: RecallReport, result: SettingResult) -> str:
    remarks = ["smallest"] if result == report.smallest else []
    if not result.planned:
        remarks.append("not chosen by Postgres")
    return ", ".join(remarks)
