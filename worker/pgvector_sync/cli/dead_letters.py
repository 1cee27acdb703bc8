"""`dead-letters list / requeue / discard`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from pgvector_sync.cli import environment
from pgvector_sync.cli.console import out, print_json, say
from pgvector_sync.cli.keys import parse_key, show_key
from pgvector_sync.database import Connection
from pgvector_sync.errors import ConfigError, Refused
from pgvector_sync.model import Key
from pgvector_sync.store import dead_letters, pipelines

Keys = Annotated[
    list[str] | None, typer.Option("--key", help="A key as `list` prints it: 42 or '[\"eu\", 7]'. Repeatable.")
]
BadKeys = Annotated[bool, typer.Option("--bad-keys", help="Those whose key can't become work.")]
All = Annotated[bool, typer.Option("--all", help="All of the pipeline.")]
Name = Annotated[str, typer.Argument(help="The pipeline's name.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Rows that can't be embedded as they are: see, replay or set them aside.")
    group.command("list")(show)
    group.command()(requeue)
    group.command()(discard)
    app.add_typer(group, name="dead-letters", no_args_is_help=True)


def show(
    pipeline: Annotated[str | None, typer.Argument(help="Only this one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, oldest first.")] = 100,
) -> None:
    """Show them, oldest first; never with their text."""
    with environment.runtime() as runtime, runtime.database.transaction(read_only=True) as connection:
        if pipeline is not None:
            pipelines.require_pipeline(connection, pipeline)
        found = dead_letters.dead_letters(connection, pipeline, limit=limit)
    if as_json:
        print_json([asdict(letter) for letter in found])
        return
    if not found:
        out.print("no dead letters")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("pipeline", "key", "verdict", "class", "attempts", "age", "message"):
        table.add_column(column, overflow="fold")
    for letter in found:
        cells = (
            letter.pipeline,
            letter.key if isinstance(letter.key, str) else show_key(letter.key),
            letter.verdict,
            letter.error_class,
            str(letter.attempts),
            f"{letter.age_seconds:,.0f} s",
            letter.message,
        )
        table.add_row(*cells)
    out.print(table)
    if len(found) == limit:
        out.print(f"the {limit:,} oldest; --limit shows more")


def requeue(pipeline: Name, key: Keys = None, everything: All = False) -> None:
    """Try them again, as if for the first time."""
    count = _change(pipeline, key, everything=everything, action=dead_letters.requeue)
    out.print(f"{count:,} of {pipeline} are tried again" if count else f"{pipeline} has none")


def discard(pipeline: Name, key: Keys = None, bad_keys: BadKeys = False, everything: All = False) -> None:
    """Set them aside until their content changes; remove keys that can't become work."""
    if bad_keys:
        if key or everything:
            raise ConfigError("give one of --key, --bad-keys and --all", where="dead-letters")
        with environment.runtime() as runtime:
            with runtime.database.transaction(read_only=True) as connection:
                pipelines.require_pipeline(connection, pipeline)
            removed = runtime.database.patiently(
                lambda connection: dead_letters.discard_events(connection, pipeline)
            )
        out.print(f"removed {removed:,} keys of {pipeline}", markup=False)
        return
    count = _change(pipeline, key, everything=everything, action=dead_letters.discard)
    done = f"{count:,} of {pipeline} are set aside until their content changes"
    out.print(done if count else f"{pipeline} has none to set aside")


def _change(
    pipeline: str,
    key: list[str] | None,
    *,
    everything: bool,
    action: Callable[[Connection, str, Sequence[Key] | None], int],
) -> int:
    """How many were changed. Raises Refused where none of the keys given could be."""
    if bool(key) == everything:
        raise ConfigError("say which: --key KEY (repeatable), or --all", where="dead-letters")
    with environment.runtime() as runtime:
        with runtime.database.transaction(read_only=True) as connection:
            columns = pipelines.require_pipeline(connection, pipeline).source.key
        keys = None if key is None else list(dict.fromkeys(parse_key(text, columns) for text in key))
        count = runtime.database.patiently(lambda connection: action(connection, pipeline, keys))
    if keys is not None and not count:
        raise Refused(
            "no dead letter has that key" if len(keys) == 1 else "no dead letter has one of these keys",
            hint=f"`pgvector-sync dead-letters list {pipeline}` shows those that there are; one that is set aside "
            "already stays so; keys that can't become work: `discard --bad-keys`",
        )
    if keys is not None and count < len(keys):
        say(f"{len(keys) - count:,} of the {len(keys):,} keys have no dead letter")
    return count
