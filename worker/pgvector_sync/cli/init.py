"""`init`: look at the database and propose a pipeline."""

from __future__ import annotations

import shlex
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table as Grid

from pgvector_sync.cli import environment
from pgvector_sync.cli.apply import CONFIG_FILE
from pgvector_sync.cli.console import out, print_table, say
from pgvector_sync.database import Connection, begin, connect, limit_statements
from pgvector_sync.declare.initial.draft import Draft, draft, find_source, label_of
from pgvector_sync.declare.initial.models import choose_model
from pgvector_sync.declare.initial.text import cost_of, file_of
from pgvector_sync.errors import Refused
from pgvector_sync.runtime.bootstrap import surroundings
from pgvector_sync.settings import load_settings
from pgvector_sync.store import catalog, proposals

STDOUT = Path("-")
PROCESSES = (
    "pgvector-sync worker    # and beat, each in its own terminal; or instead of both: pgvector-sync sync",
    "pgvector-sync beat",
)
LOOKING = timedelta(seconds=30)


def register(app: typer.Typer) -> None:
    app.command()(init)


def init(
    table: Annotated[
        str | None, typer.Argument(help="The table to embed, such as articles or shop.articles. Default: ask.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option("--provider", help="openai, local, cohere, voyage, gemini or ollama.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="The model. Default: by provider.")] = None,
    dimensions: Annotated[
        int | None, typer.Option("--dimensions", min=1, max=16_000, help="The size of the model's vectors.")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", help="A column to embed, instead of those that look like text. Can be repeated."),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The file to write; - prints it, like --print.")
    ] = CONFIG_FILE,
    print_only: Annotated[bool, typer.Option("--print", help="Print the file instead of writing it.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Look at the database, read-only, and propose a pipeline for a table, as a commented file."""
    output = STDOUT if print_only else output
    if output != STDOUT and not force:
        _require_free(output)
    environment.use_embedded_if_running()
    settings = load_settings()
    with (
        connect(settings.database()) as connection,
        begin(connection, lock_timeout=settings.lock_timeout, read_only=True),
    ):
        limit_statements(connection, LOOKING)
        name = table or _ask(connection)
        choice = choose_model(settings, surroundings(), provider=provider, model=model, dimensions=dimensions)
        proposal = draft(connection, find_source(connection, name), choice, text or ())
        migrated = catalog.find_relation(connection, "pgvector_sync", "applied_migration") is not None
    _deliver(proposal, output, force=force)
    _say_what_follows(proposal, output, migrated=migrated)


def _require_free(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise Refused(
            f"{path} exists",
            hint="print the proposal, to paste its section: --print; another file: -o FILE; replace it: --force",
        )


def _ask(connection: Connection) -> str:
    """List the tables, and ask for one. Raises Refused without a terminal."""
    tables = proposals.tables(connection)
    if not tables:
        raise Refused(
            "this database has no table with text that this role may read",
            hint="check DATABASE_URL and the role's grants: GRANT SELECT, TRIGGER ON … TO …;",
        )
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    grid.add_column("table")
    for heading in ("rows", "size", "text columns"):
        grid.add_column(heading, justify="right")
    for each in tables:
        size = f"{each.bytes / 1_000_000:,.1f} MB"
        grid.add_row(label_of((each.schema, each.table)), f"{each.rows:,}", size, str(each.text_columns))
    print_table(grid)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Refused("name one of these tables", hint="pgvector-sync init TABLE")
    try:
        return str(typer.prompt("table", err=True))
    except typer.Abort as abort:
        if isinstance(abort.__context__, KeyboardInterrupt):  # otherwise it was Ctrl-D
            raise KeyboardInterrupt from None
        raise Refused("no table was named", hint="pgvector-sync init TABLE") from None


def _deliver(proposal: Draft, output: Path, *, force: bool) -> None:
    content = file_of(proposal)
    if output == STDOUT:
        sys.stdout.write(content)
        return
    try:
        with output.open("w" if force else "x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError:
        _require_free(output)
    except OSError as error:
        raise Refused(f"{output} can't be written: {error.strerror}", hint="write another file: -o FILE") from None


def _say_what_follows(proposal: Draft, output: Path, *, migrated: bool) -> None:
    """Print a summary, and the next commands; to stderr if the file is on stdout."""
    write = say if output == STDOUT else out.print
    if output != STDOUT:
        write(f"wrote {output}: pipeline {proposal.name}")
    write(f"  text      {', '.join(proposal.text)}")
    for name, reason in proposal.left_out:
        write(f"  left out  {name}: {reason}")
    write(f"  model     {proposal.model.model} of {proposal.model.provider.name}: {proposal.model.why}")
    write(f"  cost      {cost_of(proposal)}")
    if proposal.where:
        write(f"  consider  where = {proposal.where}")
    write("next:")
    file = "" if output in (STDOUT, CONFIG_FILE) else f" -f {shlex.quote(str(output))}"
    commands = [*proposal.model.missing, *([] if migrated else ["pgvector-sync migrate"])]
    commands += [f"pgvector-sync apply --dry-run{file}", f"pgvector-sync apply{file}", *PROCESSES]
    for command in commands:
        write(f"  {command}")
