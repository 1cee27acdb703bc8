"""`dead-letters list / requeue / discard`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from pgvector_sync.cli.console import out, print_document, say
from pgvector_sync.cli.environment import open_sync
from pgvector_sync.cli.keys import parse_key, show_key
from pgvector_sync.client.sync import Sync
from pgvector_sync.errors import ConfigError
from pgvector_sync.model import Key

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
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document, see docs/json.md.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, oldest first.")] = 100,
) -> None:
    """Show them, oldest first; never with their text."""
    with open_sync() as sync:
        found = sync.dead_letters(pipeline, limit=limit)
    if as_json:
        print_document({"dead_letters": found})
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
            f"{letter.age.total_seconds():,.0f} s",
            letter.message,
        )
        table.add_row(*cells)
    out.print(table)
    if len(found) == limit:
        out.print(f"the {limit:,} oldest; --limit shows more")


def requeue(pipeline: Name, key: Keys = None, everything: All = False) -> None:
    """Try them again, as if for the first time."""
    with open_sync() as sync:
        keys = _keys(sync, pipeline, key, everything=everything)
        count = sync.requeue(pipeline, keys=keys)
    _say_missing(keys, count)
    out.print(f"{count:,} of {pipeline} are tried again" if count else f"{pipeline} has none")


def discard(pipeline: Name, key: Keys = None, bad_keys: BadKeys = False, everything: All = False) -> None:
    """Set them aside until their content changes; remove keys that can't become work."""
    if bad_keys and (key or everything):
        raise ConfigError("give one of --key, --bad-keys and --all", where="dead-letters")
    with open_sync() as sync:
        if bad_keys:
            out.print(f"removed {sync.discard_bad_keys(pipeline):,} keys of {pipeline}", markup=False)
            return
        keys = _keys(sync, pipeline, key, everything=everything)
        count = sync.discard(pipeline, keys=keys)
    _say_missing(keys, count)
    done = f"{count:,} of {pipeline} are set aside until their content changes"
    out.print(done if count else f"{pipeline} has none to set aside")


def _keys(sync: Sync, pipeline: str, typed: list[str] | None, *, everything: bool) -> list[Key] | None:
    """The keys that were typed; None for all of them."""
    if bool(typed) == everything:
        raise ConfigError("say which: --key KEY (repeatable), or --all", where="dead-letters")
    if typed is None:
        return None
    columns = sync.key_columns(pipeline)
    return list(dict.fromkeys(parse_key(text, columns) for text in typed))


def _say_missing(keys: list[Key] | None, count: int) -> None:
    if keys is not None and count < len(keys):
        say(f"{len(keys) - count:,} of the {len(keys):,} keys have no dead letter")
