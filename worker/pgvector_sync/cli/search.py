"""`search`: show the rows nearest to a query."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from pgvector_sync.cli.console import out, print_document
from pgvector_sync.cli.environment import open_sync
from pgvector_sync.observe.search import Hit

EXCERPT_CHARACTERS = 100


def register(app: typer.Typer) -> None:
    app.command()(search)


def search(
    pipeline: Annotated[str, typer.Argument(help="The pipeline to search.")],
    query: Annotated[str, typer.Argument(help="The text to search for.")],
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="The maximum number of rows.")] = 5,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON document, see docs/json.md.")] = False,
) -> None:
    """Embed a query and show the nearest rows."""
    with open_sync() as sync:
        hits = sync.search(pipeline, query, k=k)
    if json:
        print_document({"hits": hits})
    else:
        out.print(table(hits))


def table(hits: list[Hit]) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("similarity", justify="right")
    grid.add_column("key", no_wrap=True)
    grid.add_column("text", overflow="ellipsis", no_wrap=True)
    for hit in hits:
        key = hit.key[0] if len(hit.key) == 1 else list(hit.key)
        excerpt = " ".join(hit.text.split())[:EXCERPT_CHARACTERS]
        grid.add_row(f"{hit.similarity:.3f}", str(key), excerpt)
    return grid
