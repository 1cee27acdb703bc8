"""`doctor`: check the whole set-up."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from pgvector_sync.cli import environment
from pgvector_sync.cli.console import out, print_document
from pgvector_sync.observe.doctor import Check, examine
from pgvector_sync.observe.level import Level
from pgvector_sync.settings import load_settings
from pgvector_sync.telemetry.printable import printable

STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "bold red"}

ORDER = (Level.ERROR, Level.WARNING, Level.OK)


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print a JSON document, see docs/json.md.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Don't send any text to providers.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Also show checks that passed.")] = False,
) -> None:
    """Check the server, grants, triggers, providers and workers, and say what to do. Exits 1 on an error."""
    environment.use_embedded_if_running()
    checks = examine(load_settings(), offline=offline)
    if json:
        print_document({"checks": checks})
    else:
        _show(checks, every=every)
    if any(check.level is Level.ERROR for check in checks):
        raise typer.Exit(1)


def _show(checks: list[Check], *, every: bool) -> None:
    """Print errors, then warnings; checks that passed are only counted, unless `every` is set.

    A terminal gets a table. Other outputs get plain lines, so that statements in them are never wrapped.
    """
    shown = sorted(checks, key=lambda check: ORDER.index(check.level))
    if not every:
        shown = [check for check in shown if check.level is not Level.OK]
    if out.is_terminal:
        table = Table(box=None, pad_edge=False, show_header=False)
        for check in shown:
            table.add_row(Text(check.level, STYLES[check.level]), _name(check), _message(check))
        if shown:
            out.print(table)
    else:
        for check in shown:
            out.print(f"{check.level:<8} {_name(check)}: {check.seen}")
            if check.advice:
                out.print(f"         → {check.advice}")
    counted = Counter(check.level for check in checks)
    summary = ", ".join(_count(level, counted[level]) for level in (Level.ERROR, Level.WARNING))
    hidden = "" if every else " (--all shows them)"
    out.print(f"{summary}, {counted[Level.OK]} ok{hidden}")


def _name(check: Check) -> str:
    return f"{check.name} ({check.pipeline})" if check.pipeline else check.name


def _message(check: Check) -> Text:
    message = Text(printable(check.seen), overflow="fold")
    if check.advice:
        message.append(f"\n→ {printable(check.advice)}", "dim" if check.level is Level.OK else "bold")
    return message


def _count(level: Level, number: int) -> str:
    return f"{number or 'no'} {level}{'' if number == 1 else 's'}"
