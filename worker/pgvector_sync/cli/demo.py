"""`demo`: a complete example on real text, in under a minute."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from pgvector_sync.cli import apply, state
from pgvector_sync.cli.console import out, say
from pgvector_sync.cli.interrupts import Interrupts
from pgvector_sync.cli.up import say_log
from pgvector_sync.local import demo as steps
from pgvector_sync.local.demo import Demo
from pgvector_sync.local.demo_corpus import collect
from pgvector_sync.local.embedded import Embedded
from pgvector_sync.observe.status import read_status
from pgvector_sync.runtime import Runtime
from pgvector_sync.runtime.bootstrap import open_runtime
from pgvector_sync.store.migrations import migrate

WIDTH = 78
"""Columns; a terminal has 80."""
INDENT = 11


def register(app: typer.Typer) -> None:
    app.command()(demo)


class Model(StrEnum):
    """The models that the demo can use."""

    WORDLLAMA = "wordllama"
    MINILM = "minilm"


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Keep everything running at the end.")] = False,
    stop: Annotated[
        bool, typer.Option("--stop", help="Stop and remove a demo that was started with --keep.")
    ] = False,
    folder: Annotated[
        Path, typer.Option("--folder", help="The folder to run in, which is removed at the end.")
    ] = steps.FOLDER,
    model: Annotated[
        Model | None, typer.Option("--model", help="The local model. Default: minilm, if it is installed.")
    ] = None,
) -> None:
    """Sync the docstrings of Python's standard library: real text and processes, no network, no API key."""
    demo = Demo(folder)
    with Interrupts() as interrupts:
        if stop:
            demo.lock_kept()
            demo.remove()
            out.print(f"stopped the demo and removed {folder}")
            return
        demo.lock()
        try:
            servers = _play(demo, model or steps.best_model())
        except Exception:
            interrupts.ending()
            demo.stop(hurried=lambda: interrupts.hurried)
            _say_logs(demo)
            raise
        except BaseException:  # Ctrl-C, or a closed pipe (`pgvector-sync demo | head`)
            interrupts.ending()
            with suppress(OSError):  # the terminal may be gone
                say("\nstopping; press Ctrl-C again to stop at once")
            demo.stop(hurried=lambda: interrupts.hurried)
            demo.remove()
            raise
        if keep:
            demo.keep()
            _say_kept(demo, servers)
            return
        interrupts.ending()
        with _step("stop", f"all processes are stopped, and {folder} is removed"):
            demo.stop(hurried=lambda: interrupts.hurried)
            demo.remove()


def _play(demo: Demo, model: str) -> Embedded:
    out.print()
    out.print("Real text and real processes; nothing leaves this machine.")
    out.print()
    with _step("servers") as details:
        servers, settings = demo.start_servers()
        details.append(_versions(*steps.versions(servers.database_url)))
    with _step("table") as details:
        docstrings = collect()
        steps.fill_table(servers.database_url, docstrings)
        python = ".".join(platform.python_version_tuple()[:2])
        details.append(f"{len(docstrings):,} docstrings of Python {python}'s standard library")
    with open_runtime(settings) as runtime:
        _declare(demo, runtime, model)
        with _step("processes", "a Celery worker and a Celery beat, as in production"):
            demo.start_children(settings)
        _watch(demo, runtime, len(docstrings))
        for query in steps.QUERIES:
            _search(runtime, query)
        _change(demo, runtime, servers)
        for _ in steps.watch_sync(runtime, demo.up):
            pass
        out.print()
        state.show(read_status(runtime.database, exact_text_limit=settings.text_limit_bytes))
        out.print()
    return servers


@contextmanager
def _step(name: str, what: str = "") -> Iterator[list[str]]:
    """Print what a step did and how long it took. The step can append details to the yielded list."""
    details = [what]
    started = time.monotonic()
    with out.status(name) if out.is_terminal else nullcontext():
        yield details
    _line(name, "".join(details), f"{time.monotonic() - started:.1f} s")


def _line(name: str, what: str, figure: str = "") -> None:
    left = Text.assemble((name.ljust(INDENT), "bold"), what)
    right = Text(figure.rjust(max(len(figure) + 2, WIDTH - left.cell_len)) if figure else "", "dim")
    out.print(left + right)


def _versions(postgres: str, pgvector: str | None) -> str:
    return f"PostgreSQL {postgres}{f' with pgvector {pgvector}' if pgvector else ''}, and Valkey"


def _declare(demo: Demo, runtime: Runtime, model: str) -> None:
    with _step("migrate", "the schema pgvector_sync"):
        migrate(runtime.settings.database())
    out.print()
    for line in steps.config(model).splitlines():
        out.print(" " * INDENT + line, style="green")
    out.print()
    with _step("apply") as details:
        target = steps.declare(runtime, demo.folder / apply.CONFIG_FILE, model, say=say)
        details.append(f"{target}, triggers, and a backfill")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f} rows/s")


def _watch(demo: Demo, runtime: Runtime, total: int) -> None:
    steps.find(runtime, "load the model in this process too, while worker and beat start")
    columns = (
        TextColumn(f"[bold]{'sync'.ljust(INDENT - 1)}"),
        BarColumn(bar_width=30),
        TextColumn("{task.completed:,} of {task.total:,}"),
        _Rate(),
    )
    samples: list[tuple[float, int]] = []
    started = time.monotonic()
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        bar = progress.add_task("", total=total)
        for done in steps.watch_sync(runtime, demo.up):
            progress.update(bar, completed=done)
            if done:
                samples.append((time.monotonic(), done))
    (first_at, first), (last_at, last) = samples[0], samples[-1]
    rate = f", {(last - first) / (last_at - first_at):,.0f} rows/s" if last > first else ""
    _line("sync", f"{last:,} vectors{rate}", f"{last_at - started:.1f} s")


def _search(runtime: Runtime, query: str, *, k: int = 3) -> None:
    started = time.monotonic()
    hits = steps.find(runtime, query, k=k)
    out.print()
    _line("search", f"“{query}”", f"{(time.monotonic() - started) * 1000:.0f} ms")
    for hit in hits:
        line = Text.assemble(
            (f"{hit.similarity:.2f}".rjust(INDENT - 2) + "  ", "dim"),
            (hit.place, "cyan"),
            "  " + hit.doc.split("\n", 1)[0],
        )
        line.truncate(WIDTH, overflow="ellipsis")
        out.print(line)


def _change(demo: Demo, runtime: Runtime, servers: Embedded) -> None:
    edited = ".".join(steps.EDITED)
    times = [took / timedelta(milliseconds=1) for took in steps.edit(servers.database_url, demo.up)]
    out.print()
    _line("edit", f"{edited} describes baking bread after {len(times)} edits")
    each = ", ".join(f"{milliseconds:.0f}" for milliseconds in times)
    _line("", f"from commit to new vector: {each} ms", f"median {statistics.median(times):.0f} ms")
    _search(runtime, steps.QUERY_AFTER_EDITS, k=1)
    before, after = steps.delete(servers.database_url)
    out.print()
    _line("delete", f"{edited}: {before} vector before, {after} after, in the same transaction")


def _say_kept(demo: Demo, servers: Embedded) -> None:
    out.print("everything keeps running:", style="bold")
    out.print()
    out.print(f"  export DATABASE_URL={servers.database_url}", style="cyan")
    out.print(f"  export REDIS_URL={servers.redis_url}", style="cyan")
    out.print()
    for command in (
        "pgvector-sync status --watch",
        f'pgvector-sync search {steps.PIPELINE} "a folder that is removed afterwards"',
        'psql "$DATABASE_URL" -c "UPDATE docstrings SET doc = \'something else\' WHERE id = 1"',
    ):
        out.print(f"  {command}")
    out.print()
    out.print(f"to stop and remove it: {demo.stop_command}")
    out.print()


def _say_logs(demo: Demo) -> None:
    """Print the logs after a failure, or remove the folder if there are none."""
    logs = [child for child in demo.up.children if child.last_lines()]
    for child in logs:
        say_log(child)
    if not logs:
        demo.remove()
