"""Output: results on stdout, everything else on stderr; colours and progress bars only on a terminal.

All output is printed here, and most of it contains text from outside. It is therefore never parsed as markup, and
control characters are escaped (`printable`). A string is printed as one line; a `Text` can have several.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from pgvector_sync.client.documents import write_document
from pgvector_sync.telemetry.printable import printable

if TYPE_CHECKING:
    from rich.progress import Progress

WIDTH_WITHOUT_TERMINAL = 160
"""Columns; wide enough that tables in log files aren't truncated."""
MAX_WIDTH = 1_000


class _Console(Console):
    """A console that never parses markup and escapes control characters."""

    def render_str(self, text: str, *, style: str | Style = "", **options: Any) -> Text:
        """Convert a string that is printed or put into a cell."""
        layout: dict[str, Any] = {name: options[name] for name in ("justify", "overflow") if options.get(name)}
        return Text(printable(text), style=style, **layout)

    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Escape all segments, which includes `Text` objects that were created elsewhere."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else printable(segment.text, lines=True)
            yield segment if text == segment.text else Segment(text, segment.style)


def _console(*, stderr: bool) -> Console:
    console = _Console(stderr=stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDTH_WITHOUT_TERMINAL
    return console


out = _console(stderr=False)
err = _console(stderr=True)


def indented(label: str, text: str, *, style: str = "") -> Text:
    """Return a label and a text. Further lines of the text are indented, so that none looks like our output."""
    return Text(label + printable(text, lines=True).replace("\n", "\n" + " " * len(label)), style)


def complain(message: str, hint: str | None = None) -> None:
    """Print an error message, and on further lines what to do next."""
    err.print(indented("error: ", message, style="bold red"))
    if hint:
        for line in hint.splitlines():
            err.print("  →", line)


def say(message: str) -> None:
    """Print a one-line remark to stderr. Line breaks at its beginning are kept."""
    line = message.lstrip("\n")
    err.print(Text("\n" * (len(message) - len(line)) + printable(line)))


def print_table(table: Table) -> None:
    """Print a table at its full width, so that no number is truncated. A narrow terminal wraps the lines."""
    before = out.width
    out.width = max(before, Measurement.get(out, out.options.update(max_width=MAX_WIDTH), table).maximum)
    try:
        out.print(table)
    finally:
        out.width = before


def print_document(content: Mapping[str, object]) -> None:
    """Print a JSON document to stdout, see `client.documents`."""
    sys.stdout.write(write_document(content) + "\n")
    sys.stdout.flush()  # here, where a full disk is reported


@contextmanager
def announcing_requests() -> Iterator[None]:
    """While requesting runs: on Ctrl-C, say that those already requested continue in the background."""
    try:
        yield
    except KeyboardInterrupt:
        say(
            "\nany run that was requested already continues in the background; show it: pgvector-sync runs list; "
            "stop it: pgvector-sync runs cancel RUN"
        )
        raise


@contextmanager
def announcing_background_run(run_id: int) -> Iterator[None]:
    """While waiting for a run: on Ctrl-C, say that the run continues in the background."""
    try:
        yield
    except KeyboardInterrupt:
        say(
            f"\nrun {run_id} continues in the background; show it: pgvector-sync runs show {run_id}; "
            f"stop it: pgvector-sync runs cancel {run_id}"
        )
        raise


@contextmanager
def progress(what: str, total: int | None) -> Iterator[_Bar]:
    """Show progress: a bar on a terminal, otherwise one line per tenth of the total."""
    if err.is_terminal:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=err, transient=False) as rich_bar:
            yield _Bar(rich_bar, what, total)
    else:
        yield _Bar(None, what, total)


class _Bar:
    def __init__(self, rich_bar: Progress | None, what: str, total: int | None) -> None:
        self._rich_bar, self._what, self._total = rich_bar, what, total
        self._task = None if rich_bar is None else rich_bar.add_task(what, total=total)
        self._printed_steps = 0

    def reach(self, done: int, total: int | None = None, what: str | None = None) -> None:
        """Show that `done` of `total` rows are done. A new `what` restarts at zero."""
        self._total = total if total is not None else self._total
        if what is not None and what != self._what:
            self._what, self._printed_steps = what, 0
        at_least = self._total and max(self._total, done)  # more may have arrived since
        if self._rich_bar is not None and self._task is not None:
            self._rich_bar.update(self._task, completed=done, total=at_least, description=self._what)
            return
        step = max(1, (self._total or 0) // 10)
        if done // step > self._printed_steps:
            self._printed_steps = done // step
            say(f"{self._what}: {done:,}" + (f" of {at_least:,}" if at_least else ""))
