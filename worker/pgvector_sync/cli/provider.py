"""`provider test`: find out what a provider's endpoint can do, and which settings follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from pgvector_sync.cli import environment
from pgvector_sync.cli.apply import CONFIG_FILE
from pgvector_sync.cli.capabilities import show
from pgvector_sync.cli.console import print_document, progress, say
from pgvector_sync.cli.plan import ask
from pgvector_sync.client.documents import fields_of
from pgvector_sync.declare.file import load_config
from pgvector_sync.declare.tested import Choice, Known, built_in, choose, in_database, in_file
from pgvector_sync.embedding.dialects import dialect_of
from pgvector_sync.errors import ConfigError
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.observe.provider_test import Cost, cost_of, prepare, run, subject_of
from pgvector_sync.observe.provider_test.report import Report, report_of
from pgvector_sync.observe.provider_test.seen import Seen, Subject
from pgvector_sync.observe.provider_test.trials import plan
from pgvector_sync.runtime.bootstrap import surroundings
from pgvector_sync.settings import Settings, load_settings
from pgvector_sync.store import pipelines

CENT = 0.01


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Find out what a provider's endpoint can do, and which settings follow.")
    group.command("test")(try_out)
    app.add_typer(group, name="provider", no_args_is_help=True)


def try_out(
    name: Annotated[str, typer.Argument(help="A provider of the file or, if it isn't there, of the database.")],
    file: Annotated[
        Path, typer.Option("-f", "--file", help="The file that declares the provider; `apply` isn't needed.")
    ] = CONFIG_FILE,
    model: Annotated[
        str | None, typer.Option("--model", help="The model to test. Default: that of the first pipeline.")
    ] = None,
    dimensions: Annotated[
        int | None, typer.Option("--dimensions", min=1, max=16_000, help="Default: those of the pipeline.")
    ] = None,
    time_limit: Annotated[
        float, typer.Option("--time-limit", min=1, help="The maximum number of seconds to test.")
    ] = 300.0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before paying the provider.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON document, see docs/json.md.")] = False,
) -> None:
    """Test what a provider accepts, one call per question, and print the settings for the file.

    Exits 0 if it works with the settings it has, 1 if not.
    """
    known = _known(name, file)
    settings, environ = load_settings(), surroundings()
    choice = choose(known, settings, model=model, dimensions=dimensions)
    subject = subject_of(
        choice.provider, choice.spec, choice.query_spec, pipeline=choice.pipeline, proposal=choice.proposal
    )
    prepare(subject, settings, environ)
    _announce(choice, settings)
    _confirm(choice, cost_of(subject, choice.price), yes=yes)
    report = _carry_out(subject, settings, environ, timedelta(seconds=time_limit), json=json)
    if not report.works:
        raise typer.Exit(1)


def _known(name: str, file: Path) -> Known:
    """Find the provider. Raises ConfigError if there is none of this name."""
    known = None
    if file.exists() or file != CONFIG_FILE:
        known = in_file(load_config(file, needs_pipelines=False), name)
    environment.use_embedded_if_running()
    if known is None and load_settings().database_url is not None:
        with (
            environment.runtime() as runtime,
            runtime.database.transaction(read_only=True) as connection,
        ):
            known = in_database(pipelines.all_pipelines(connection), pipelines.providers(connection), name)
    known = known or built_in(name)
    if known is None:
        raise ConfigError(
            f"there is no provider {name}",
            where="provider test",
            hint=f"declare [providers.{name}] in {file}; `apply` isn't needed",
        )
    return known


def _announce(choice: Choice, settings: Settings) -> None:
    place = dialect_of(choice.provider).place(choice.provider, settings)
    origin = "" if choice.pipeline is None else f", as in pipeline {choice.pipeline}"
    say(f"{choice.provider.name}, {place}: {choice.spec.model}, {choice.spec.dimensions:,} dimensions{origin}")
    if choice.others:
        say(f"pipelines with another model or input: {', '.join(choice.others)} (--model tests another model)")


def _confirm(choice: Choice, cost: Cost, *, yes: bool) -> None:
    """Say what the test costs, and ask. Raises Refused if declined, or without a terminal."""
    calls = f"at most {cost.calls} calls with {cost.texts:,} texts, about {cost.tokens:,} tokens: {_price(cost)}"
    if dialect_of(choice.provider).billed and not yes:
        ask(calls)
    else:
        say(calls)


def _price(cost: Cost) -> str:
    if cost.usd is None:
        return "price unknown (set it under [prices])"
    if cost.usd == 0:
        return "free"
    return "less than $0.01" if cost.usd < CENT else f"${cost.usd:,.2f}"


def _carry_out(
    subject: Subject, settings: Settings, environ: Mapping[str, str], limit: timedelta, *, json: bool
) -> Report:
    """Run the test and print its result; after Ctrl-C, what is known so far."""
    seen = Seen(subject)
    trials = [trial.name for trial in plan(subject)]
    try:
        with progress("testing", len(trials)) as bar:
            run(
                seen,
                settings,
                environ,
                deadline=Deadline.after(limit),
                began=lambda trial: bar.reach(trials.index(trial.name)),
            )
            if seen.ended_by is None:
                bar.reach(len(trials))
    except KeyboardInterrupt:
        _print(report_of(seen, settings, interrupted=True), json=json)
        raise
    report = report_of(seen, settings)
    _print(report, json=json)
    return report


def _print(report: Report, *, json: bool) -> None:
    if json:
        print_document(fields_of(report))
    else:
        show(report)
