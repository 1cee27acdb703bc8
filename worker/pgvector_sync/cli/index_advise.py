"""`index advise`: which index a pipeline should have, and why."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Annotated

import typer

from pgvector_sync.cli.console import out, print_document, progress
from pgvector_sync.cli.environment import open_sync
from pgvector_sync.cli.index_goal import RECALL_HELP, LatencyMs, Memory, bytes_of, latency_of
from pgvector_sync.cli.interrupts import Interrupts
from pgvector_sync.index.phrases import size
from pgvector_sync.observe.index_advice import Advised, IndexAdvice


def add_to(group: typer.Typer) -> None:
    group.command("advise")(advise)


def advise(
    pipeline: Annotated[str, typer.Argument(help="The pipeline's name.")],
    recall: Annotated[
        float | None,
        typer.Option(
            "--recall",
            min=0.01,
            max=1.0,
            help=RECALL_HELP,
        ),
    ] = None,
    latency_ms: LatencyMs = None,
    memory: Memory = None,
    where: Annotated[
        str | None, typer.Option("--filter", help="A condition of searches, to see what Postgres does with it.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Measure the recall of an index that exists.")
    ] = True,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON document, see docs/json.md.")] = False,
) -> None:
    """Advise an exact scan, HNSW or IVFFlat, and say why. Exits 1 if a goal is out of reach."""
    with Interrupts(), open_sync() as sync, progress("queries", None) as bar:
        advice = sync.index_advise(
            pipeline,
            recall=recall,
            latency=latency_of(latency_ms),
            memory=bytes_of(memory),
            where=where,
            measure=measure,
            progress=bar.reach,
        )
    if json:
        print_document({"advice": advice})
    else:
        _show(advice)
    if advice.problems:
        raise typer.Exit(1)


def _show(advice: IndexAdvice) -> None:
    out.print(f"{advice.pipeline}: {_in_short(advice.advised)}")
    for label, value in _figures(advice):
        out.print(f"  {label:16}{value}")
    for problem in advice.problems:
        out.print(f"problem  {problem.seen}")
        out.print(f"         → {problem.advice}")
    if advice.reasons:
        out.print("why")
    for reason in advice.reasons:
        out.print(f"- {reason}")
    out.print("when Postgres uses a vector index")
    for finding in advice.planner:
        out.print(f"- {finding.seen}")
        if finding.advice is not None:
            out.print(f"  → {finding.advice}")
    _show_what_to_do(advice)


def _show_what_to_do(advice: IndexAdvice) -> None:
    if advice.section is not None:
        out.print("for pgvector-sync.toml")
        for line in advice.section.splitlines():
            out.print(f"    {line}")
        if advice.advised.keep is None:
            out.print(f"then: pgvector-sync apply, and pgvector-sync index build {advice.pipeline} --wait")
    if advice.sql:
        out.print("or as SQL")
        for statement in advice.sql:
            out.print(f"    {statement}")


def _in_short(advised: Advised) -> str:
    if advised.method == "exact":
        return "no vector index: compare all vectors"
    parameters = {"m": advised.m, "ef_construction": advised.ef_construction, "lists": advised.lists}
    written = ", ".join(f"{name} = {value}" for name, value in parameters.items() if value is not None)
    kept = "" if advised.keep is None else f"; keep {advised.keep}"
    return f"{advised.method} over {advised.storage}, {written}{kept}"


def _figures(advice: IndexAdvice) -> list[tuple[str, str]]:
    advised = advice.advised
    lines = []
    if advised.setting is not None:
        lines.append((advised.setting, f"{advised.value}, {'measured' if advised.measured else 'a start value'}"))
    if advised.bytes is not None:
        lines.append(("size", f"{size(advised.bytes)} at {advice.rows_planned:,} rows"))
    if advised.build_memory_bytes is not None:
        lines.append(("build memory", size(advised.build_memory_bytes)))
    if advised.build_time is not None:
        lines.append(("build time", f"about {timedelta(seconds=math.ceil(advised.build_time.total_seconds()))}"))
    return lines
