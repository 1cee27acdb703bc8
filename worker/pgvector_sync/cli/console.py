"""What is printed: results on stdout, everything else on stderr; colour and progress only on a terminal.

All of it passes here, and most of it holds text from outside: no markup is read in it, and what would act on the
terminal is shown escaped (`printable`). A string, as in a cell or a message, is one line; a `Text` may have more.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from pgvector_sync.client.documents import write_document
from pgvector_sync.telemetry.printable import printable

WIDTH_ELSEWHERE = 160
"""Columns where there is no terminal to ask: a table in a log file is not cut."""
WIDEST = 1_000


class _Console(Console):
    """No string is markup, and no text reaches the terminal as anything but text."""

    def render_str(self, text: str, *, style: str | Style = "", **options: Any) -> Text:
        """What a string in a `print` or in a cell becomes."""
        shown: dict[str, Any] = {name: options[name] for name in ("justify", "overflow") if options.get(name)}
        return Text(printable(text), style=style, **shown)

    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The last place: texts that were put together elsewhere come by here as well."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else printable(segment.text, lines=True)
            yield segment if text == segment.text else Segment(text, segment.style)


def _console(*, stderr: bool) -> Console:
    console = _Console(stderr=stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDTH_ELSEWHERE
    return console


out = _console(stderr=False)
err = _console(stderr=True)


def indented(label: str, text: str, *, style: str = "") -> Text:
    """A label with a text of several lines, of which none can be taken for a line of ours."""
    return Text(label + printable(text, lines=True).replace("\n", "\n" + " " * len(label)), style)


def complain(message: str, hint: str | None = None) -> None:
    """An error in our words, and what to do next."""
    err.print(indented("error: ", message, style="bold red"))
    if hint:
        for line in hint.splitlines():
            err.print("  →", line)


def say(message: str) -> None:
    """A remark that is not the result: one line, which may begin with line breaks."""
    words = message.lstrip("\n")
    err.print(Text("\n" * (len(message) - len(words)) + printable(words)))


def print_table(table: Table) -> None:
    """As wide as it is: a number that is cut is a wrong number. The terminal wraps what it has no room for."""
    before = out.width
    out.width = max(before, Measurement.get(out, out.options.update(max_width=WIDEST), table).maximum)
    try:
        out.print(table)
    finally:
        out.width = before


def print_document(content: Mapping[str, object]) -> None:
    """A JSON document on stdout, see `client.documents`."""
    sys.stdout.write(write_document(content) + "\n")


@contextmanager
def going_on_alone(run_id: int) -> Iterator[None]:
    """Waiting for a run: whoever stops waiting hears that the run doesn't stop."""
    try:
        yield
    except KeyboardInterrupt:
        say(
            f"\nrun {run_id} goes on without you: `pgvector-sync runs show {run_id}`; "
            f"to stop it: `pgvector-sync runs cancel {run_id}`"
        )
        raise


@contextmanager
def progress(what: str, total: int | None) -> Iterator[_Bar]:
    """A bar on a terminal, a line every tenth elsewhere."""
    if err.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=err, transient=False) as shown:
            yield _Bar(shown, what, total)
    else:
        yield _Bar(None, what, total)


class _Bar:
    def __init__(self, shown: Progress | None, what: str, total: int | None) -> None:
        self._shown, self._what, self._total = shown, what, total
        self._task = None if shown is None else shown.add_task(what, total=total)
        self._said = 0

    def reach(self, done: int, total: int | None = None, what: str | None = None) -> None:
        """`done` of `total` rows; a new `what` begins at its own zero."""
        self._total = total if total is not None else self._total
        if what is not None and what != self._what:
            self._what, self._said = what, 0
        if self._shown is not None and self._task is not None:
            self._shown.update(self._task, completed=done, total=self._total, description=self._what)
            return
        step = max(1, (self._total or 0) // 10)
        if done // step > self._said:
            self._said = done // step
            say(f"{self._what}: {done:,}" + (f" of {self._total:,}" if self._total else ""))
