"""The Typer app, and `main`, which turns its errors into exit codes.

Exit codes: 0 success; 1 failed, refused, or found a problem; 2 wrong usage or configuration; 130 Ctrl-C.
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
    provider,
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
    help="Keep pgvector embeddings in step with the rows they describe.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (
    apply,
    celery,
    sync,
    state,
    reembed,
    reconcile,
    runs,
    search,
    dead_letters,
    doctor,
    provider,
    up,
    demo,
):
    module.register(app)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"pgvector-sync {__version__}")
        raise typer.Exit


LOGGING_COMMANDS = ("worker", "beat", "up")
"""Commands whose log is their output. The others log only warnings, unless PGVECTOR_SYNC_LOG_LEVEL is set."""


@app.callback()
def _set_up_logging(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Keep pgvector embeddings in step with the rows they describe."""
    del version
    settings = load_settings()
    if context.invoked_subcommand not in LOGGING_COMMANDS and "log_level" not in settings.model_fields_set:
        settings = settings.model_copy(update={"log_level": "WARNING"})
    configure_logging(settings)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command and exit. Mistakes of the user and outages are reported without a stack trace."""
    try:
        app(arguments)  # exits with 0, with 2 for wrong usage, with 130 for Ctrl-C
    except SyncError as error:
        complain(str(error), error.hint)
        sys.exit(error.exit_code)
    except psycopg.Error as error:
        complain(*explain(error))
        sys.exit(1)
    except RedisError as error:
        complain(
            f"Redis is out of reach ({type(error).__name__})", "check REDIS_URL and that the server is running"
        )
        sys.exit(1)
    sys.exit(0)
