"""Command lines in files of a deployment, compared with the commands that exist."""

from __future__ import annotations

from typing import Any

import typer
from celery.bin.beat import beat
from celery.bin.worker import worker

from pgvector_sync.cli.app import app
from pgvector_sync.settings import Settings
from pgvector_sync.settings.variables import variable

CELERYS = {"worker": worker, "beat": beat}


def require_known(line: list[str]) -> None:
    """Fails unless `pgvector-sync …` has the command and its options; `worker` and `beat` have Celery's as well."""
    command: Any = typer.main.get_command(app)
    context, words = typer.Context(command), line
    while hasattr(command, "resolve_command"):
        name, command, words = command.resolve_command(context, words)
        context = typer.Context(command, info_name=name, parent=context)
    parameters = [*command.params, *getattr(CELERYS.get(line[0]), "params", [])]
    options = {word for parameter in parameters for word in (*parameter.opts, *parameter.secondary_opts)}
    unknown = {word for word in words if word.startswith("-")} - options
    assert not unknown, f"{line[0]} has no {', '.join(sorted(unknown))}"
    command.make_context(context.info_name, list(words), parent=context.parent)  # checks values


def settings() -> set[str]:
    """The names of the variables that are settings."""
    return {variable(field) for field in Settings.model_fields}
