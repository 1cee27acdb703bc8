"""`reembed`: enqueue a bulk re-embed, or estimate its cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pgvector_sync.cli import environment, estimates
from pgvector_sync.cli.apply import CONFIG_FILE
from pgvector_sync.cli.console import (
    announcing_background_run,
    announcing_requests,
    complain,
    out,
    print_document,
    progress,
    say,
)
from pgvector_sync.cli.environment import open_sync
from pgvector_sync.cli.keys import read_keys
from pgvector_sync.cli.plan import ask
from pgvector_sync.client.documents import fields_of
from pgvector_sync.client.sync import Sync
from pgvector_sync.declare import planned
from pgvector_sync.declare.plan import PipelinePlan
from pgvector_sync.embedding.dialects import dialect_of
from pgvector_sync.model import Key
from pgvector_sync.model.counted import counted
from pgvector_sync.model.request import MINIMUM_RATE, Reembed
from pgvector_sync.runs.estimate import Estimate
from pgvector_sync.runs.requests import Requested
from pgvector_sync.store.runs import Run


def register(app: typer.Typer) -> None:
    app.command()(reembed)


def reembed(
    pipeline: Annotated[str, typer.Argument(help="The pipeline to re-embed.")],
    where: Annotated[
        str | None, typer.Option("--where", help="Re-embed only rows for which this SQL condition is true.")
    ] = None,
    keys: Annotated[
        str | None,
        typer.Option("--keys", help="Re-embed only rows whose key is in this file, one per line (- for stdin)."),
    ] = None,
    stale_only: Annotated[
        bool, typer.Option("--stale-only", help="Enqueue only rows whose vectors don't match their text.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Embed and pay again, even if the vector of the same text is stored.")
    ] = False,
    estimated: Annotated[
        bool, typer.Option("--estimate", help="Only estimate rows, tokens, cost and time.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document, see docs/json.md.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until every enqueued row has been processed.")
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option("--limit-rate", min=MINIMUM_RATE, help="The maximum number of rows to enqueue per second."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("-f", "--file", help="With --estimate: use the pipeline as declared in this file."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before paying again with --force.")] = False,
) -> None:
    """Check rows again in the bulk lane and embed those whose vector is out of date, or all with --force."""
    request = Reembed(where, keys is not None, stale_only, force, rate)
    if estimated:
        estimate = _estimate(pipeline, request, keys, file)
        print_document(fields_of(estimate)) if as_json else estimates.show(estimate)
        return
    with open_sync() as sync:
        parsed = None if keys is None else list(read_keys(keys, sync.key_columns(pipeline)))
        if force:
            _confirm(sync, pipeline, request, parsed, yes=yes)
        if wait:
            sync.require_unpaused(pipeline)
        with announcing_requests():
            requested = sync.reembed(
                pipeline, where=where, keys=parsed, stale_only=stale_only, force=force, rows_per_second=rate
            )
        if requested.joined:
            say(f"an identical re-embed is already running: run {requested.run_id}")
        if not wait:
            _announce(requested, as_json=as_json)
            return
        run = _wait(sync, requested.run_id)
    _report(run, as_json=as_json)


def _estimate(pipeline: str, request: Reembed, keys: str | None, file: Path | None) -> Estimate:
    with environment.runtime() as runtime:
        declared = planned.as_declared(runtime.database, pipeline, file, default_file=CONFIG_FILE)
        if declared is not None:
            _say_declared(declared, file or CONFIG_FILE)
            parsed = None if keys is None else list(dict.fromkeys(read_keys(keys, declared.source.key)))
            return planned.estimate_declared(runtime, declared, request, keys=parsed)
    with open_sync() as sync:
        parsed_keys = None if keys is None else read_keys(keys, sync.key_columns(pipeline))
        return sync.estimate(
            pipeline, where=request.where, keys=parsed_keys, stale_only=request.stale_only, force=request.force
        )


def _say_declared(pipeline: PipelinePlan, file: Path) -> None:
    if pipeline.existing is None:
        say(f"{pipeline.name} isn't applied yet: estimated from {file}; to create it: pgvector-sync apply")
    elif not pipeline.idle:
        say(f"estimated from {file}, whose changes to {pipeline.name} aren't applied yet")


def _confirm(sync: Sync, pipeline: str, request: Reembed, keys: list[Key] | None, *, yes: bool) -> None:
    """Ask before stored vectors are paid for again. Raises Refused, see `ask`."""
    provider = sync.provider(pipeline)
    if yes or not dialect_of(provider).billed:
        return
    estimate = sync.estimate(pipeline, where=request.where, keys=keys, stale_only=request.stale_only, force=True)
    rows = counted(estimate.rows, "row")
    ask(f"this re-embeds {rows} of {pipeline} at {provider.name}: {estimates.in_short(estimate)}")


def _announce(requested: Requested, *, as_json: bool) -> None:
    if as_json:
        print_document(fields_of(requested))
        return
    out.print(
        f"requested run {requested.run_id}, carried out by a worker or `pgvector-sync sync`; "
        f"show progress: pgvector-sync runs show {requested.run_id}"
    )


def _wait(sync: Sync, run_id: int) -> Run:
    def silence(run: Run, reason: str) -> None:
        say(f"{counted(run.waiting, 'row is waiting', 'rows are waiting')}: {reason}")

    with announcing_background_run(run_id), progress("re-embedding", None) as bar:
        return sync.wait(
            run_id, carry_out=True, on_progress=lambda run: bar.reach(*_progress_of(run)), on_silence=silence
        )


def _progress_of(run: Run) -> tuple[int, int | None, str]:
    """Return the rows done, the total, and a label.

    While a condition selects few rows of a large table, the rows read so far are counted, since all selected ones
    are still waiting.
    """
    if run.walked:
        return run.rows_enqueued - run.waiting, run.rows_enqueued, "re-embedding"
    if isinstance(run.request, Reembed) and run.request.narrows:
        return run.rows_seen, run.rows_total, "selecting rows"
    return run.rows_seen - run.waiting, run.rows_total, "re-embedding"


def _report(run: Run, *, as_json: bool) -> None:
    """Print the result. Exits 1 if the run failed, was cancelled or left dead letters."""
    if as_json:
        print_document({"run": run})
    else:
        out.print(
            f"run {run.id} {run.state}: {counted(run.rows_seen, 'row')} seen, {run.rows_enqueued:,} enqueued"
        )
    if run.dead:
        complain(
            f"{counted(run.dead, 'row became a dead letter', 'rows became dead letters')}",
            f"list them: pgvector-sync dead-letters list {run.pipeline}",
        )
    if run.state != "finished":
        complain(run.reason or f"run {run.id} was {run.state}")
    if run.dead or run.state != "finished":
        raise typer.Exit(1)
