"""`reembed`: enqueue a bulk re-embed, or say beforehand what it comes to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from pgvector_sync.cli import environment, estimates
from pgvector_sync.cli.apply import CONFIG_FILE
from pgvector_sync.cli.console import complain, going_on_alone, out, print_json, progress, say
from pgvector_sync.cli.keys import read_keys
from pgvector_sync.cli.plan import ask
from pgvector_sync.declare import planned
from pgvector_sync.declare.file import load_config
from pgvector_sync.declare.plan import PipelinePlan
from pgvector_sync.embedding.dialects import dialect_of
from pgvector_sync.model import Key
from pgvector_sync.model.request import SLOWEST, Reembed
from pgvector_sync.observe.waiting import refuse_to_wait_for_paused, wait_for, what_holds_up
from pgvector_sync.runs.estimate import Asked, Estimate, estimate_of
from pgvector_sync.runs.requests import request_reembed
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import pipelines
from pgvector_sync.store.runs import Run


def register(app: typer.Typer) -> None:
    app.command()(reembed)


def reembed(
    pipeline: Annotated[str, typer.Argument(help="Its name.")],
    where: Annotated[
        str | None, typer.Option("--where", help="Only rows for which this SQL condition is true.")
    ] = None,
    keys: Annotated[
        str | None, typer.Option("--keys", help="Only these: a file with a key a line, or - for standard input.")
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
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until the last row that it has enqueued is done.")] = False,
    rate: Annotated[
        float | None, typer.Option("--limit-rate", min=SLOWEST, help="Rows a second, at most.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("-f", "--file", help="With --estimate: the pipeline as this file declares it."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before --force pays again.")] = False,
) -> None:
    """Read rows again, in the bulk lane; only what differs is paid for, unless --force."""
    with environment.runtime() as runtime:
        declared = _declared(runtime, pipeline, file) if estimated else None
        given = None if keys is None else _keys(runtime, pipeline, keys, declared)
        if given is not None and (estimated or force):
            given = list(dict.fromkeys(given))
        request = Reembed(where, keys is not None, stale_only, force, rate)
        asked = Asked(request, given if isinstance(given, list) else None)
        if estimated:
            found = _estimate(runtime, pipeline, asked, declared)
            print_json({"version": 1, **asdict(found)}) if as_json else estimates.show(found)
            return
        if force:
            _confirm(runtime, pipeline, asked, yes=yes)
        if wait:
            refuse_to_wait_for_paused(runtime, [pipeline])
        requested = request_reembed(runtime.database, pipeline, request, keys=given)
        if requested.joined:
            say(f"the very same is running already, as run {requested.run_id}")
        if not wait:
            _announce(requested.run_id, as_json=as_json)
            return
        ended = _wait(runtime, requested.run_id)
    _report(ended, as_json=as_json)


def _declared(runtime: Runtime, pipeline: str, file: Path | None) -> PipelinePlan | None:
    """As the file has it: one that is named, or the usual one where the database doesn't know the pipeline yet."""
    with runtime.database.transaction(force_rollback=True) as connection:
        if file is None:
            if pipelines.find_pipeline(connection, pipeline) is not None or not CONFIG_FILE.is_file():
                return None
            config = load_config(CONFIG_FILE)
            if pipeline not in config.pipelines:
                return None
        else:
            config = load_config(file)
        made = planned.declared(connection, config, pipeline)
    if made.existing is None:
        say(f"{pipeline} is only declared: estimated from {config.path}; `pgvector-sync apply` creates it")
    elif not made.idle:
        say(f"estimated as {config.path} declares {pipeline}, which is not applied yet")
    return made


def _keys(runtime: Runtime, pipeline: str, file: str, declared: PipelinePlan | None) -> Iterable[Key]:
    if declared is not None:
        return read_keys(file, declared.source.key)
    with runtime.database.transaction(read_only=True) as connection:
        columns = pipelines.require_pipeline(connection, pipeline).source.key
    return read_keys(file, columns)


def _estimate(runtime: Runtime, pipeline: str, asked: Asked, declared: PipelinePlan | None) -> Estimate:
    with runtime.database.transaction(read_only=True) as connection:
        if declared is None:
            return estimate_of(connection, runtime, pipelines.require_pipeline(connection, pipeline), asked)
        asked = replace(asked, has_target=not declared.creates_target)
        return estimate_of(connection, runtime, planned.pipeline_of(declared), asked)


def _confirm(runtime: Runtime, pipeline: str, asked: Asked, *, yes: bool) -> None:
    """Before texts whose vectors are stored are paid for again. Raises Refused, see `ask`."""
    with runtime.database.transaction(read_only=True) as connection:
        provider = pipelines.require_pipeline(connection, pipeline).provider
    if yes or not dialect_of(provider).billed:
        return
    found = _estimate(runtime, pipeline, asked, None)
    ask(f"{pipeline} embeds {found.rows:,} rows again at {provider.name}: {estimates.in_short(found)}")


def _announce(run_id: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"version": 1, "run": run_id})
        return
    out.print(
        f"run {run_id}: a worker or `pgvector-sync sync` carries it out; "
        f"`pgvector-sync runs show {run_id}` shows how far it is"
    )


def _wait(runtime: Runtime, run_id: int) -> Run:
    def silence(run: Run) -> None:
        say(f"{run.waiting:,} rows wait: {what_holds_up(runtime, run)}")

    with going_on_alone(run_id), progress("re-embedding", None) as bar:
        return wait_for(
            runtime,
            run_id,
            on_progress=lambda run: bar.reach(*_how_far(run)),
            on_silence=silence,
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
        print_json({"version": 1, "run": run.id, "state": run.state, "reason": run.reason, "rows": run.rows_seen,
                    "enqueued": run.rows_enqueued, "dead": run.dead})  # fmt: skip
    else:
        out.print(f"run {run.id} {run.state}: {run.rows_seen:,} rows seen, {run.rows_enqueued:,} enqueued")
    if run.dead:
        complain(f"{run.dead:,} became dead letters", f"see `pgvector-sync dead-letters list {run.pipeline}`")
    if run.state != "finished":
        complain(run.reason or f"it was {run.state}")
    if run.dead or run.state != "finished":
        raise typer.Exit(1)
