"""`index build`, `index builds` and `index cancel`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import time, timedelta
from typing import Annotated

import typer
from rich.table import Table

from pgvector_sync.cli.console import complain, err, out, print_document, print_table, progress, say
from pgvector_sync.cli.environment import open_sync
from pgvector_sync.cli.sizes import parse_bytes
from pgvector_sync.client.documents import fields_of
from pgvector_sync.errors import ConfigError
from pgvector_sync.index.phrases import size
from pgvector_sync.model import IndexPlan
from pgvector_sync.model.counted import counted
from pgvector_sync.observe.index_builds import IndexBuild

Pipeline = Annotated[str, typer.Argument(help="The pipeline whose index is built.")]
Json = Annotated[bool, typer.Option("--json", help="Print a JSON document, see docs/json.md.")]
_STEP = 0.1


def add_to(group: typer.Typer) -> None:
    group.command()(build)
    group.command()(builds)
    group.command()(cancel)


def build(
    pipeline: Pipeline,
    window: Annotated[
        str | None,
        typer.Option(
            "--window",
            help="Begin only between these times (UTC), like 01:00-05:00; 00:00-23:59: now. Default: as declared.",
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the end, and build in this process if no other one does.")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build a new index beside the existing one, then drop that one.")
    ] = False,
    memory: Annotated[
        str | None, typer.Option("--memory", help="The maintenance_work_mem of the build, such as 8GB.")
    ] = None,
    json: Json = False,
) -> None:
    """Build the declared vector index, or HNSW with default parameters. Writes and searches go on meanwhile."""
    with open_sync() as sync:
        requested = sync.index_build(
            pipeline,
            rebuild=rebuild,
            window=_window(window),
            memory_bytes=None if memory is None else parse_bytes(memory),
        )
        for remark in requested.remarks:
            say(f"{pipeline}: {remark}")
        if requested.joined:
            say(
                f"build {requested.build} was requested before; to replace the request: "
                f"pgvector-sync index cancel {pipeline}"
            )
        if not wait:
            if json:
                print_document(fields_of(requested))
            else:
                done = "joined" if requested.joined else "requested"
                out.print(
                    f"{done} build {requested.build} of {requested.index}, carried out by beat's job or "
                    f"`pgvector-sync sync`; show it: pgvector-sync index builds {pipeline}"
                )
            return
        with _announcing(pipeline, requested.build), _showing() as show:
            ended = sync.wait_for_index(requested.build, carry_out=True, on_progress=show)
    if json:
        print_document({"build": ended})
    elif ended.state == "done":
        out.print(f"built {ended.index}: {counted(ended.rows or 0, 'row')}, {size(ended.bytes or 0)}")
    if ended.state != "done":
        complain(ended.reason or f"build {ended.id} was {ended.state}")
        raise typer.Exit(1)


def builds(
    pipeline: Annotated[str | None, typer.Argument(help="List builds of this pipeline only.")] = None,
    json: Json = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The maximum number to list.")] = 20,
) -> None:
    """List builds of vector indexes, newest first."""
    with open_sync() as sync:
        listed = sync.index_builds(pipeline, limit=limit)
    if json:
        print_document({"builds": listed})
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("build", justify="right")
    for name in ("pipeline", "index", "state", "progress", "requested", "by"):
        table.add_column(name, no_wrap=True)
    for name in ("rows", "size"):
        table.add_column(name, justify="right")
    table.add_column("reason")
    for each in listed:
        table.add_row(
            str(each.id),
            each.pipeline,
            each.index or each.method,
            each.state,
            "" if each.state == "waiting" else _progress(each),
            f"{each.requested_at:%m-%d %H:%M}",
            each.requested_by,
            "" if each.rows is None else f"{each.rows:,}",
            "" if each.bytes is None else size(each.bytes),
            each.reason or "",
        )
    print_table(table) if listed else out.print("no builds yet")


def cancel(pipeline: Pipeline) -> None:
    """Cancel the build of a pipeline's index. What it has built is dropped; an index it should replace stays."""
    with open_sync() as sync:
        number = sync.index_cancel(pipeline)
    out.print(f"cancelled build {number} of {pipeline}; beat or `pgvector-sync sync` drops what it has built")


def _window(text: str | None) -> tuple[time, time] | None:
    if text is None:
        return None
    try:
        return IndexPlan.read({"window": text}).window
    except ValueError as error:
        raise ConfigError(str(error), where="--window") from None


@contextmanager
def _announcing(pipeline: str, number: int) -> Iterator[None]:
    """On Ctrl-C, say that the build isn't cancelled."""
    try:
        yield
    except KeyboardInterrupt:
        say(
            f"\nbuild {number} isn't cancelled: what has begun goes on in the server, and beat or `pgvector-sync "
            f"sync` completes it; show it: pgvector-sync index builds {pipeline}; cancel it: pgvector-sync index "
            f"cancel {pipeline}"
        )
        raise


@contextmanager
def _showing() -> Iterator[Callable[[IndexBuild], None]]:
    """Show progress: a bar on a terminal, otherwise one line per phase and tenth of it."""
    if err.is_terminal:
        with progress("waiting", 100) as bar:
            yield lambda build: bar.reach(_percent(build), 100, _doing(build))
        return
    last: list[object] = []

    def say_changes(build: IndexBuild) -> None:
        reached = [_doing(build), int((build.done_share or 0) / _STEP)]
        if build.unfinished and reached != last:
            last[:] = reached
            say(f"{build.pipeline}: {_progress(build) or build.state}")

    yield say_changes


def _percent(build: IndexBuild) -> int:
    return 100 if build.state == "done" else round((build.done_share or 0) * 100)


def _doing(build: IndexBuild) -> str:
    """Return the phase, or what a build waits for."""
    if build.waits_for is not None:
        return f"{build.phase}: waiting for the transaction of pid {build.waits_for}"
    if build.state == "building":
        return build.phase or "building"
    return f"{build.state}: {build.reason}" if build.reason else build.state


def _progress(build: IndexBuild) -> str:
    if not build.unfinished:
        return ""
    done = "" if build.done_share is None else f", {build.done_share:.0%}"
    left = "" if build.time_left is None else f", about {_rounded(build.time_left)} left"
    return f"{_doing(build)}{done}{left}"


def _rounded(span: timedelta) -> str:
    seconds = span.total_seconds()
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"
