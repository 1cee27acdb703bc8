"""`status --watch`: the status again and again, as a live view on a terminal, else as lines or JSON documents."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import timedelta
from queue import Empty

from pgvector_sync.cli.console import out, say
from pgvector_sync.cli.environment import use_embedded_if_running
from pgvector_sync.cli.watch.lines import Lines
from pgvector_sync.cli.watch.memory import Memory
from pgvector_sync.cli.watch.readings import Reader, Reading, Readings
from pgvector_sync.client.documents import fields_of, write_document
from pgvector_sync.client.results import Status
from pgvector_sync.errors import ConfigError
from pgvector_sync.observe.live import Look
from pgvector_sync.settings import load_settings
from pgvector_sync.telemetry.printable import printable

PATIENCE = timedelta(seconds=5)
"""How long after a reading was due its absence is written."""
_EVERY = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)\s*(ms|s|m|h|)")
_UNITS = {"ms": 0.001, "s": 1, "": 1, "m": 60, "h": 3600}
SHORTEST, LONGEST = timedelta(milliseconds=200), timedelta(hours=1)


def interval(text: str) -> timedelta:
    """Read an interval such as `2s`, `500ms` or `1m`. Raises ConfigError."""
    match = _EVERY.fullmatch(text.strip())
    if match is not None:
        every = timedelta(seconds=float(match[1]) * _UNITS[match[2]])
        if SHORTEST <= every <= LONGEST:
            return every
    raise ConfigError(f"expected an interval from 200ms to 1h, such as 2s, got {text!r}", where="--every")


def watch(pipeline: str | None, *, every: timedelta, exact: bool, json: bool) -> None:
    """Show the status until Ctrl-C, or `q` in the live view. Errors at the first look are raised, as in `status`.

    Later ones are shown, and the next look tries again.
    """
    use_embedded_if_running()
    reader = Reader(load_settings(), pipeline, exact=exact)
    first = Reading(reader.read())
    if out.is_terminal and not out.is_dumb_terminal and not json:
        from pgvector_sync.cli.watch.screen import Screen

        Screen(out, reader, every, first).run()
    else:
        _write(reader, first, every, _write_documents() if json else _write_lines())


def _write(reader: Reader, first: Reading, every: timedelta, write: Callable[[Reading], None]) -> None:
    readings, reading = Readings(reader, every), first
    readings.start()
    patience = (every + PATIENCE).total_seconds()
    try:
        while True:
            write(reading)
            sys.stdout.flush()  # into a pipe, too: somebody waits for it
            try:
                reading = readings.queue.get(timeout=patience)
            except Empty:
                reading = Reading(None, "no answer from the database")
    finally:
        readings.end()


def _write_documents() -> Callable[[Reading], None]:
    """Return a function that writes a JSON document per look to stdout. What went wrong goes to stderr."""
    lines = Lines()

    def write(reading: Reading) -> None:
        if reading.look is None:
            for line in lines.trouble(reading.trouble or "", reading.at):
                say(line)
            return
        for line in lines.recovery(reading.at):
            say(line)
        print(write_document(fields_of(_status(reading.look)), indent=None))  # noqa: T201

    return write


def _write_lines() -> Callable[[Reading], None]:
    """Return a function that writes lines to stdout when something has changed."""
    lines, memory = Lines(), Memory()

    def write(reading: Reading) -> None:
        if reading.look is None:
            new = lines.trouble(reading.trouble or "", reading.at)
        else:
            memory.add(reading.look)
            new = lines.of(reading.look, memory, reading.at)
        for line in new:
            print(printable(line))  # noqa: T201

    return write


def _status(look: Look) -> Status:
    return Status(look.workers, look.pipelines)
