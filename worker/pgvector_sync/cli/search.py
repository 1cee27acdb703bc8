"""`search`: show the rows nearest to a query."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer
from rich.table import Table

from pgvector_sync.cli.console import out, print_document, say
from pgvector_sync.cli.environment import open_sync
from pgvector_sync.client.keys import json_parts, show_key
from pgvector_sync.model.search import Hit, Hits

EXCERPT_CHARACTERS = 100
_DOCUMENTED = ("key", "chunk_no", "distance", "similarity", "text", "model")


def register(app: typer.Typer) -> None:
    app.command()(search)


def search(
    pipeline: Annotated[str, typer.Argument(help="The pipeline to search.")],
    query: Annotated[str, typer.Argument(help="The text to search for.")],
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="The maximum number of rows.")] = 5,
    where: Annotated[
        str | None, typer.Option("--where", help="Find only rows for which this SQL condition is true.")
    ] = None,
    min_similarity: Annotated[
        float | None, typer.Option("--min-similarity", help="Show only rows that are at least this similar.")
    ] = None,
    after: Annotated[
        str | None, typer.Option("--after", help="Continue behind the page that has printed this token.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show how Postgres finds the rows, instead of the rows.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON document, see docs/json.md.")] = False,
) -> None:
    """Embed a query and show the nearest rows."""
    with open_sync() as sync:
        if explain:
            plan = sync.explain_search(pipeline, query, k, where=where, min_similarity=min_similarity, after=after)
            _print_plan(plan, json=json)
            return
        hits = sync.search(pipeline, query, k, where=where, min_similarity=min_similarity, after=after)
    if json:
        print_document(
            {
                "model": hits.model,
                "hits": [{name: getattr(hit, name) for name in _DOCUMENTED} for hit in hits],
                "next": hits.next,
                "complete": hits.complete,
            }
        )
        return
    out.print(table(hits))
    _remark(hits)


def table(hits: Iterable[Hit]) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("similarity", justify="right")
    grid.add_column("key", no_wrap=True)
    grid.add_column("text", overflow="ellipsis", no_wrap=True)
    for hit in hits:
        excerpt = " ".join((hit.text or "").split())[:EXCERPT_CHARACTERS]
        grid.add_row(f"{hit.similarity:.3f}", show_key(json_parts(hit.key)), excerpt)
    return grid


def _print_plan(plan: list[str], *, json: bool) -> None:
    if json:
        print_document({"plan": plan})
        return
    for line in plan:
        out.print(line)


def _remark(hits: Hits) -> None:
    if not hits.hits:
        say("no row was found")
    if not hits.complete:
        say("the time was too short to compare every vector: further rows may meet the condition")
    if hits.next is not None:
        say(f"for more: --after {hits.next}")
