"""The app and its one way out.

Exit codes: 0 done; 1 it failed, refused or found something; 2 wrong usage or configuration; 130 Ctrl-C.
"""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import psycopg
import typer
from redis.exceptions import RedisError

from pgvector_sync import __version__
from pgvector_sync.cli import (
    apply,
    celery,
    dead_letters,
    demo,
    doctor,
    flags,
    reconcile,
    reembed,
    runs,
    search,
    state,
    sync,
    up,
)
from pgvector_sync.cli.console import complain
from pgvector_sync.database.explain import explain
from pgvector_sync.errors import SyncError
from pgvector_sync.settings import load_settings
from pgvector_sync.telemetry import configure_logging

app = typer.Typer(
    name="pgvector-sync",
    cls=flags.Group,
    help="Keeps pgvector embeddings in step with the rows they describe.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (apply, celery, sync, state, reembed, reconcile, runs, search, dead_letters, doctor, up, demo):
    module.register(app)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"pgvector-sync {__version__}")
        raise typer.Exit


SPEAKING = ("worker", "beat", "up")
"""Commands whose log is their output; the others log warnings only, unless PGVECTOR_SYNC_LOG_LEVEL says more."""


@app.callback()
def _begin(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Keeps pgvector embeddings in step with the rows they describe."""
    del version
    settings = load_settings()
    if context.invoked_subcommand not in SPEAKING and "log_level" not in settings.model_fields_set:
        settings = settings.model_copy(update={"log_level": "WARNING"})
    configure_logging(settings)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs a command and exits; no stack trace for what a user or an outage has caused."""
    try:
        app(arguments)  # exits by itself: 0, 2 for wrong usage, 130 for Ctrl-C
    except SyncError as error:
        complain(str(error), error.hint)
        sys.exit(error.exit_code)
    except psycopg.Error as error:
        complain(*explain(error))
        sys.exit(1)
    except RedisError as error:
        complain(f"Redis is out of reach ({type(error).__name__})", "check REDIS_URL, and that the server runs")
        sys.exit(1)
    sys.exit(0)
