"""`reembed`: enqueue a bulk re-embed, or say beforehand what it comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pgvector_sync.cli import environment, estimates
from pgvector_sync.cli.apply import CONFIG_FILE
from pgvector_sync.cli.console import complain, going_on_alone, out, print_document, progress, say
from pgvector_sync.cli.environment import open_sync
from pgvector_sync.cli.keys import read_keys
from pgvector_sync.cli.plan import ask
from pgvector_sync.client.documents import fields_of
from pgvector_sync.client.sync import Sync
from pgvector_sync.declare import planned
from pgvector_sync.declare.plan import PipelinePlan
from pgvector_sync.embedding.dialects import dialect_of
from pgvector_sync.model import Key
from pgvector_sync.model.request import MINIMUM_RATE, Reembed
from pgvector_sync.runs.estimate import Estimate
from pgvector_sync.runs.requests import Requested
from pgvector_sync.store.runs import Run


def register(app: typer.Typer) -> None:
    app.command()(reembed)


def reembed(
    pipeline: Annotated[str, typer.Argument(help="Its name.")],
    where: Annotated[
        str | None, typer.Option("--where", help="Only rows for which this SQL condition is true.")
    ] = None,
    keys: Annotated[
        str | None,
        typer.Option("--keys", help="Only these: a file, one key per line, or - for standard input."),
    ] = None,
    stale_only: Annotated[
        bool, typer.Option("--stale-only", help="Enqueue only rows whose vectors aren't those of their text.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Pay again, even for texts whose vectors are stored.")
    ] = False,
    estimated: Annotated[
        bool, typer.Option("--estimate", help="Say rows, tokens, cost and time, and do nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document, see docs/json.md.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until every enqueued row has been processed.")
    ] = False,
    rate: Annotated[
        float | None, typer.Option("--limit-rate", min=MINIMUM_RATE, help="Rows per second, at most.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("-f", "--file", help="With --estimate: the pipeline as this file declares it."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before --force pays again.")] = False,
) -> None:
    """Read rows again, in the bulk lane; only what differs is paid for, unless --force."""
    request = Reembed(where, keys is not None, stale_only, force, rate)
    if estimated:
        found = _estimate(pipeline, request, keys, file)
        print_document(fields_of(found)) if as_json else estimates.show(found)
        return
    with open_sync() as sync:
        listed = None if keys is None else list(read_keys(keys, sync.key_columns(pipeline)))
        if force:
            _confirm(sync, pipeline, request, listed, yes=yes)
        if wait:
            sync.require_unpaused(pipeline)
        requested = sync.reembed(
            pipeline, where=where, keys=listed, stale_only=stale_only, force=force, rows_per_second=rate
        )
        if requested.joined:
            say(f"the very same is running already, as run {requested.run_id}")
        if not wait:
            _announce(requested, as_json=as_json)
            return
        ended = _wait(sync, requested.run_id)
    _report(ended, as_json=as_json)


def _estimate(pipeline: str, request: Reembed, keys: str | None, file: Path | None) -> Estimate:
    with environment.runtime() as runtime:
        made = planned.as_declared(runtime.database, pipeline, file, default_file=CONFIG_FILE)
        if made is not None:
            _say_declared(made, file or CONFIG_FILE)
            listed = None if keys is None else list(dict.fromkeys(read_keys(keys, made.source.key)))
            return planned.estimate_declared(runtime, made, request, keys=listed)
    with open_sync() as sync:
        found = None if keys is None else read_keys(keys, sync.key_columns(pipeline))
        return sync.estimate(
            pipeline, where=request.where, keys=found, stale_only=request.stale_only, force=request.force
        )


def _say_declared(made: PipelinePlan, file: Path) -> None:
    if made.existing is None:
        say(f"{made.name} is only declared: estimated from {file}; `pgvector-sync apply` creates it")
    elif not made.idle:
        say(f"estimated as {file} declares {made.name}, which is not applied yet")


def _confirm(sync: Sync, pipeline: str, request: Reembed, keys: list[Key] | None, *, yes: bool) -> None:
    """Before texts whose vectors are stored are paid for again. Raises Refused, see `ask`."""
    provider = sync.provider(pipeline)
    if yes or not dialect_of(provider).billed:
        return
    found = sync.estimate(pipeline, where=request.where, keys=keys, stale_only=request.stale_only, force=True)
    ask(f"{pipeline} embeds {found.rows:,} rows again at {provider.name}: {estimates.in_short(found)}")


def _announce(requested: Requested, *, as_json: bool) -> None:
    if as_json:
        print_document(fields_of(requested))
        return
    out.print(
        f"run {requested.run_id}: a worker or `pgvector-sync sync` carries it out; "
        f"`pgvector-sync runs show {requested.run_id}` shows how far it is"
    )


def _wait(sync: Sync, run_id: int) -> Run:
    def silence(run: Run, reason: str) -> None:
        say(f"{run.waiting:,} rows wait: {reason}")

    with going_on_alone(run_id), progress("re-embedding", None) as bar:
        return sync.wait(
            run_id, carry_out=True, on_progress=lambda run: bar.reach(*_how_far(run)), on_silence=silence
        )


def _how_far(run: Run) -> tuple[int, int | None, str]:
    """Done, of how many, and what: of a table most rows may not be asked for, and of those asked for all wait."""
    if run.walked:
        return run.rows_enqueued - run.waiting, run.rows_enqueued, "re-embedding"
    if isinstance(run.request, Reembed) and run.request.narrows:
        return run.rows_seen, run.rows_total, "looking for rows"
    return run.rows_seen - run.waiting, run.rows_total, "re-embedding"


def _report(run: Run, *, as_json: bool) -> None:
    """Exit 1 where it failed, was cancelled, or left dead letters."""
    if as_json:
        print_document({"run": run})
    else:
        out.print(f"run {run.id} {run.state}: {run.rows_seen:,} rows seen, {run.rows_enqueued:,} enqueued")
    if run.dead:
        complain(f"{run.dead:,} became dead letters", f"see `pgvector-sync dead-letters list {run.pipeline}`")
    if run.state != "finished":
        complain(run.reason or f"it was {run.state}")
    if run.dead or run.state != "finished":
        raise typer.Exit(1)
