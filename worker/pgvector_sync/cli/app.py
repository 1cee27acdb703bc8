"""The Typer app, and `main`, which turns its errors into exit codes.

Exit codes: 0 success; 1 failed, refused, or found a problem; 2 wrong usage or configuration; 130 Ctrl-C.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
from typing import Annotated, NoReturn

import typer

from pgvector_sync.cli.commands import Group
from pgvector_sync.errors import SyncError

app = typer.Typer(
    name="pgvector-sync",
    cls=Group,
    help="Keep pgvector embeddings in step with the rows they describe.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from pgvector_sync import __version__

        typer.echo(f"pgvector-sync {__version__}")
        raise typer.Exit


LOGGING_COMMANDS = ("worker", "beat", "serve", "up")
"""Commands whose log is their output. The others log only warnings, unless PGVECTOR_SYNC_LOG_LEVEL is set."""


@app.callback()
def _set_up_logging(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Keep pgvector embeddings in step with the rows they describe."""
    from pgvector_sync.settings import load_settings
    from pgvector_sync.telemetry import configure_logging

    del version
    if not gc.isenabled():  # the command is imported now, and may run for long
        gc.freeze()
        gc.enable()
    settings = load_settings()
    if context.invoked_subcommand not in LOGGING_COMMANDS and "log_level" not in settings.model_fields_set:
        settings = settings.model_copy(update={"log_level": "WARNING"})
    configure_logging(settings)


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command and exit. Mistakes of the user and outages are reported without a stack trace."""
    try:
        app(arguments)  # exits with 0, with 2 for wrong usage, with 130 for Ctrl-C
    except SyncError as error:
        _complain(str(error), error.hint)
        sys.exit(error.exit_code)
    except Exception as error:
        outage = _outage(error)
        if outage is None:
            raise
        _complain(*outage)
        sys.exit(1)
    sys.exit(0)


def _complain(message: str, hint: str | None) -> None:
    from pgvector_sync.cli.console import complain

    complain(message, hint)


def _outage(error: Exception) -> tuple[str, str] | None:
    """Return what an error of Postgres, Redis or a full disk means, and what to do. None for any other error."""
    if isinstance(error, OSError) and error.errno in FULL and error.filename is None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the end of the process fails as well
        return f"the output can't be written: {error.strerror}", "free space there, or write it elsewhere"
    import psycopg
    from redis.exceptions import RedisError

    from pgvector_sync import tls
    from pgvector_sync.database.explain import explain

    if isinstance(error, psycopg.Error):
        return explain(error)
    if isinstance(error, RedisError):
        if failure := tls.explain(tls.messages_of(error), tls.REDIS):
            return f"can't connect to Redis: {failure[0]}", failure[1]
        return (
            f"Redis is out of reach ({type(error).__name__})",
            "check REDIS_URL and that the server is running",
        )
    return None
