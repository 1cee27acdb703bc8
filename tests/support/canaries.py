"""Nothing leaks (G13), in any test: what a test wrote down is searched for what it must not contain.

Every test has a witness. The modules that create rows, send texts and start processes tell it what is private; sinks,
processes and our tables tell it what was written. So a test needs no line of its own to be checked.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from pgvector_sync.telemetry import add_sink, remove_sink
from pgvector_sync.telemetry.event import Event
from pgvector_sync.telemetry.leaks import description_of
from pgvector_sync.telemetry.lines import formatter
from support.traces import recorded

UNREAD = "canary of a column that no pipeline reads"
"""In every row of the default source."""
ECHO = "canary of a provider's own words"
"""In every refusal of the endpoint, beside the texts and the key."""
ORDINARY = re.compile(r".{0,4}|\d+|[a-z_]{1,11}", re.DOTALL)
"""Texts that aren't searched for, since they occur anywhere: short ones, numbers, and words such as `missing`."""
LONGEST = 300
LOGGING_COMMANDS = ("worker", "beat", "sync", "serve")
"""Commands whose whole output is a log. Others may show a text or a key, since that is what they are asked for."""

_COLUMNS = """
SELECT 'SELECT ' || string_agg(format('left(%I::text, 300)', a.attname), ', ') || ' FROM ' || a.attrelid::regclass || ' LIMIT 300'
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped AND c.relpersistence <> 't'
  AND c.relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname IN ('pg_catalog', 'information_schema', 'pgvector_sync'))
  AND (a.atttypid::regtype IN ('text', 'varchar', 'bpchar') OR a.atttypid IN (SELECT oid FROM pg_type WHERE typtype = 'd'))
  AND a.attname NOT IN ('model', 'fingerprint')
GROUP BY a.attrelid
"""
"""Statements that read the texts of all tables except ours."""
_MESSAGES = """
SELECT string_agg(format('SELECT to_jsonb(t)::text FROM (SELECT DISTINCT %s FROM pgvector_sync.%I) AS t', columns, relname), ' UNION ALL ')
FROM (SELECT c.relname, string_agg(quote_ident(a.attname), ', ') AS columns
      FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
      WHERE c.relkind = 'r' AND c.relnamespace = to_regnamespace('pgvector_sync')
        AND a.attname IN ('reason', 'problem', 'error_class', 'error_message', 'verdict', 'holder', 'name', 'state')
      GROUP BY c.relname) AS ours
"""
"""A statement that reads what our tables say in words. Keys are in other columns, and belong there."""


class Witness:
    """What is private in one test, and what it has written."""

    def __init__(self) -> None:
        self.secrets: set[str] = set()
        self.texts: set[str] = {UNREAD, ECHO}
        self.planted: set[str] = set()
        """Texts that the test itself writes to our tables or sends to the log."""
        self.forgiven = False
        """Whether the test leaks on purpose, and looks at `leaks` itself."""
        self._written: list[tuple[str, str, bool]] = []
        """Where, what, and whether texts may be shown there."""

    def private(self, texts: Sequence[str]) -> None:
        """Adds texts of rows, or keys."""
        self.texts.update(text[:LONGEST] for text in texts)

    def wrote(self, where: str, what: str, *, may_show_texts: bool = False) -> None:
        self._written.append((where, what, may_show_texts))

    def ran(self, command: Sequence[object], printed: str) -> None:
        """Adds the output of a process."""
        words = [str(word) for word in command]
        self.wrote(" ".join(words)[:100], printed, may_show_texts=not set(LOGGING_COMMANDS) & set(words))

    def looks_at(self, connection: psycopg.Connection[Any]) -> None:
        """Adds the texts of all rows, and what our tables say about them."""
        connection.execute("SET lock_timeout = '200ms'")
        for (statement,) in connection.execute(_COLUMNS).fetchall():
            try:
                rows = connection.execute(statement).fetchall()
            except psycopg.errors.LockNotAvailable:
                continue
            self.private([text for row in rows for text in row if text])
        for (statement,) in connection.execute(_MESSAGES).fetchall():
            if statement is not None:
                for (message,) in connection.execute(statement).fetchall():
                    self.wrote("a table of ours", message)

    def leaks(self) -> list[str]:
        """What was written where it must not be, each with its place."""
        texts = {text.strip() for text in self.texts - self.planted}
        texts = {text for text in texts if not ORDINARY.fullmatch(text)}
        return [
            f"{word!r} in {where}: {_around(what, word)!r}"
            for where, what, may_show_texts in self._written
            for word in (self.secrets if may_show_texts else self.secrets | texts)
            if _occurs(word, what)
        ]

    def check(self) -> None:
        leaks = [] if self.forgiven else self.leaks()
        assert not leaks, "\n".join(["leaked:", *leaks[:5]])


def _occurs(word: str, what: str) -> bool:
    escaped = json.dumps(word, ensure_ascii=False)[1:-1]
    if word not in what and escaped not in what:
        return False
    return re.search(rf"(?<![\w-])(?:{re.escape(word)}|{re.escape(escaped)})(?![\w-])", what) is not None


def _around(what: str, word: str) -> str:
    at = max(0, what.find(word))
    return what[max(0, at - 150) : at + len(word) + 100]


class _Handler(logging.Handler):
    """Passes on each line in the form in which our own handler writes it."""

    def __init__(self, witness: Witness) -> None:
        super().__init__()
        self.setFormatter(formatter("json"))
        self._witness = witness

    def emit(self, record: logging.LogRecord) -> None:
        self._witness.wrote(f"a line of {record.name}", self.format(record))


_witness: Witness | None = None


def witness() -> Witness:
    """The witness of the current test. Outside a test, such as in the soak test, one that forgets everything."""
    return _witness or Witness()


@contextmanager
def watched() -> Iterator[Witness]:
    """A new witness, which sees all events and lines of this process. Checks at the end."""
    global _witness  # noqa: PLW0603  one test at a time
    before, new = _witness, Witness()
    _witness, handler, root = new, _Handler(new), logging.getLogger()

    def sink(event: Event) -> None:
        new.wrote(f"the event {event.name}", _fields(event.fields()))

    add_sink(sink)
    root.addHandler(handler)
    try:
        with recorded(lambda span: new.wrote(f"the span {span.name}", span.to_json(indent=None))):
            yield new
    finally:
        root.removeHandler(handler)
        remove_sink(sink)
        _witness = before
    new.check()


def _fields(fields: Mapping[str, object]) -> str:
    shown = {name: description_of(v) if isinstance(v, BaseException) else str(v) for name, v in fields.items()}
    return json.dumps(shown, ensure_ascii=False)
