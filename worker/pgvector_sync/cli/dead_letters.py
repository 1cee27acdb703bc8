"""`dead-letters list / requeue / discard`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from pgvector_sync.cli.console import out, print_document, say
from pgvector_sync.cli.environment import open_sync
from pgvector_sync.cli.keys import parse_key
from pgvector_sync.client.keys import show_key
from pgvector_sync.client.sync import Sync
from pgvector_sync.errors import ConfigError
from pgvector_sync.model import Key
from pgvector_sync.model.counted import counted

Keys = Annotated[
    list[str] | None,
    typer.Option("--key", help="A key as printed by `list`, such as 42 or '[\"eu\", 7]'. Repeatable."),
]
BadKeys = Annotated[bool, typer.Option("--bad-keys", help="Delete dead letters whose key can't become work.")]
All = Annotated[bool, typer.Option("--all", help="All dead letters of the pipeline.")]
Name = Annotated[str, typer.Argument(help="The pipeline's name.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="List, requeue or discard dead letters: rows that can't be embedded as they are.")
    group.command("list")(show)
    group.command()(requeue)
    group.command()(discard)
    app.add_typer(group, name="dead-letters", no_args_is_help=True)


def show(
    pipeline: Annotated[str | None, typer.Argument(help="Show dead letters of this pipeline only.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document, see docs/json.md.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The maximum number to show.")] = 100,
) -> None:
    """List dead letters, oldest first. The rows' text is never shown."""
    with open_sync() as sync:
        letters = sync.dead_letters(pipeline, limit=limit)
    if as_json:
        print_document({"dead_letters": letters})
        return
    if not letters:
        out.print("no dead letters")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("pipeline", "key", "verdict", "class", "attempts", "age", "message"):
        table.add_column(column, overflow="fold")
    for letter in letters:
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
    if len(letters) == limit:
        out.print(f"only the oldest {limit:,} are listed; --limit lists more")


def requeue(pipeline: Name, key: Keys = None, everything: All = False) -> None:
    """Retry dead letters with all their attempts."""
    with open_sync() as sync:
        keys = _keys(sync, pipeline, key, everything=everything)
        count = sync.requeue(pipeline, keys=keys)
    _say_missing(keys, count)
    out.print(
        f"requeued {counted(count, 'dead letter')} of {pipeline}" if count else f"{pipeline} has no dead letters"
    )


def discard(pipeline: Name, key: Keys = None, bad_keys: BadKeys = False, everything: All = False) -> None:
    """Stop counting dead letters until their content changes; or delete those with a bad key."""
    if bad_keys and (key or everything):
        raise ConfigError("expected only one of --key, --bad-keys and --all", where="dead-letters")
    with open_sync() as sync:
        if bad_keys:
            out.print(
                f"deleted {counted(sync.discard_bad_keys(pipeline), 'dead letter')} of {pipeline} with a bad key"
            )
            return
        keys = _keys(sync, pipeline, key, everything=everything)
        count = sync.discard(pipeline, keys=keys)
    _say_missing(keys, count)
    done = f"discarded {counted(count, 'dead letter')} of {pipeline}"
    out.print(done if count else f"{pipeline} has no dead letters to discard")


def _keys(sync: Sync, pipeline: str, typed: list[str] | None, *, everything: bool) -> list[Key] | None:
    """Return the keys that were typed; None for --all. Raises ConfigError for neither or both."""
    if bool(typed) == everything:
        raise ConfigError("expected either --key KEY (repeatable) or --all", where="dead-letters")
    if typed is None:
        return None
    columns = sync.key_columns(pipeline)
    return list(dict.fromkeys(parse_key(text, columns) for text in typed))


def _say_missing(keys: list[Key] | None, count: int) -> None:
    if keys is not None and count < len(keys):
        say(f"keys without a dead letter: {len(keys) - count:,} of {len(keys):,}")
