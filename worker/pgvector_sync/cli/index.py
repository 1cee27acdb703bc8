"""`index …`: the vector indexes of the targets. Each command adds itself in a file of its own."""

from __future__ import annotations

import typer

from pgvector_sync.cli import index_advise, index_build, index_recall, index_rehearse, index_status


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Choose, build and measure the vector indexes of each target.")
    group.callback()(_group)
    index_advise.add_to(group)
    index_status.add_to(group)
    index_recall.add_to(group)
    index_build.add_to(group)
    index_rehearse.add_to(group)
    app.add_typer(group, name="index", no_args_is_help=True)


def _group() -> None:
    """Choose, build and measure the vector indexes of each target."""
