"""`dead-letters list / requeue / discard`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from pgvector_sync.cli import environment
from pgvector_sync.cli.console import out, print_json
from pgvector_sync.errors import ConfigError, Refused
from pgvector_sync.model import Key, KeyColumn
from pgvector_sync.store import dead_letters, pipelines
from pgvector_sync.store.database import Connection
from pgvector_sync.store.shape import canonical_key

Keys = Annotated[
    list[str] | None, typer.Option("--key", help="A key as `list` prints it: 42 or '[\"eu\", 7]'. Repeatable.")
]
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
        key = letter.key[0] if len(letter.key) == 1 else json.dumps(letter.key)
        table.add_row(
            letter.pipeline,
            str(key),
            letter.verdict,
            letter.error_class,
            str(letter.attempts),
            f"{letter.age_seconds:,.0f} s",
            letter.message,
        )
    out.print(table)
    if len(found) == limit:
        out.print(f"the {limit:,} oldest; --limit shows more")


def requeue(pipeline: Name, key: Keys = None, everything: All = False) -> None:
    """Try them again, as if for the first time."""
    count = _change(pipeline, key, everything=everything, action=dead_letters.requeue)
    out.print(f"{count:,} of {pipeline} are tried again", markup=False)


def discard(pipeline: Name, key: Keys = None, everything: All = False) -> None:
    """Set them aside until their content changes."""
    count = _change(pipeline, key, everything=everything, action=dead_letters.discard)
    out.print(f"{count:,} of {pipeline} are set aside until their content changes", markup=False)


def _change(
    pipeline: str,
    key: list[str] | None,
    *,
    everything: bool,
    action: Callable[[Connection, str, Sequence[Key] | None], int],
) -> int:
    if bool(key) == everything:
        raise ConfigError("say which: --key KEY (repeatable), or --all", where="dead-letters")
    with environment.runtime() as runtime:
        with runtime.database.transaction(read_only=True) as connection:
            columns = pipelines.require_pipeline(connection, pipeline).source.key
        keys = None if key is None else [parse_key(text, columns) for text in key]
        count = runtime.database.patiently(lambda connection: action(connection, pipeline, keys))
    if keys is not None and not count:
        raise Refused("no dead letter has that key", hint=f"see `pgvector-sync dead-letters list {pipeline}`")
    return count


def parse_key(text: str, columns: Sequence[KeyColumn]) -> Key:
    """A key as users type it: a JSON array, or a scalar for one column; a bare word is a string.

    Raises ConfigError for what can't be a key of these columns.
    """
    try:
        value = json.loads(text, parse_float=str)
    except ValueError:
        value = text
    try:
        return canonical_key(value if isinstance(value, list) else [value], columns)
    except (ValueError, ArithmeticError) as error:
        names = ", ".join(f"{column.name} {column.type}" for column in columns)
        raise ConfigError(
            f"{text} is not a key: {error}",
            where="--key",
            hint=f"the key is ({names}): type 42, abc or '[\"eu\", 7]'",
        ) from None
