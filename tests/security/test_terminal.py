"""Text from outside has no effect on a terminal or in a log, and no part of a password is shown."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import re
import subprocess
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgvector_sync.cli import console, main
from pgvector_sync.cli.search import table
from pgvector_sync.errors import ConfigError
from pgvector_sync.model.search import Hit
from pgvector_sync.redis_client import open_client
from pgvector_sync.settings import load_settings
from pgvector_sync.telemetry import configure_logging, emit, log
from pgvector_sync.telemetry.event import Event, event
from pgvector_sync.telemetry.printable import printable, printable_json
from support import canaries
from support.endpoint import ENVIRONMENT
from support.processes import COMMAND
from support.synced import Synced

HOSTILE = (
    "[/x][bold]a[link=http://evil] \x1b[2J\x1b]52;c;YQ==\x07\x1b]8;;http://evil\x1b\\ \x9b2J \x08\x7f \u202egpj.exe \u2066"
    "\r\nerror: forged\ttab :smile: \u2028end"
)
"""A text that a row's title, a name or a message could contain."""


def acts(text: str) -> list[str]:
    """The characters that act on a terminal, except line breaks."""
    categories = ("Cc", "Cs", "Zl", "Zp")
    bidi = {*"\u061c\u200e\u200f", *map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}
    return [char for char in text if char != "\n" and (unicodedata.category(char) in categories or char in bidi)]


@given(st.text())
def test_every_character_that_acts_is_escaped_and_the_rest_is_left_alone(text: str) -> None:
    shown = printable(text)
    assert acts(shown) == []
    assert "\n" not in shown
    if not acts(text) and text.isascii() and "\n" not in text:
        assert shown == text


@given(st.text(alphabet=st.characters()))
def test_escaping_keeps_the_meaning_of_a_json_document(text: str) -> None:
    document = printable_json(json.dumps({"a": [text, {"b": text}]}, indent=2, ensure_ascii=False))
    assert json.loads(document) == {"a": [text, {"b": text}]}
    assert acts(document) == []


def test_letters_of_every_script_and_emoji_are_shown() -> None:
    text = "Zoë 東京 שלום नमस्ते 👩‍👩‍👧 “x” é"
    assert printable(text) == text


# -- commands, on a real database ------------------------------------------------------------------------------


PATIENT = {"PGVECTOR_SYNC_PROVIDER_TIMEOUT": "300", "PGVECTOR_SYNC_DEADLINE": "900"}
"""Long limits for an overloaded machine. A call that hangs runs into pytest's timeout, which shows all threads."""


@pytest.fixture
def command(
    synced: Synced, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., str]]:
    """Runs a command, on a terminal (as a separate process) or without one, and returns stdout and stderr."""
    monkeypatch.setenv("DATABASE_URL", synced.database.url)
    load_settings.cache_clear()

    def run(*arguments: str, terminal: bool = True) -> str:
        env = {
            **os.environ, "DATABASE_URL": synced.database.url, "COLUMNS": "300", "NO_COLOR": "1",
            **ENVIRONMENT, "TERM": "dumb", **PATIENT,
        }  # fmt: skip
        if not terminal:
            capfd.readouterr()
            with pytest.raises(SystemExit) as ended:
                main(list(arguments))
            assert ended.value.code in (None, 0, 1, 2)
            return "".join(capfd.readouterr())
        ours, theirs = pty.openpty()
        process = subprocess.Popen([*COMMAND, *arguments], env=env, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        printed = b""
        try:
            while chunk := os.read(ours, 65_536):
                printed += chunk
        except OSError:  # it has ended
            pass
        os.close(ours)
        assert process.wait(60) in (0, 1, 2)
        return printed.decode().replace("\r\n", "\n")

    yield run
    load_settings.cache_clear()


def is_text(printed: str) -> None:
    assert acts(re.sub(r"\x1b\[[\d;]*m|\x1b\[\?25[lh]", "", printed)) == []
    assert "Traceback" not in printed
    assert not re.search(r"^error: forged", printed, re.MULTILINE)


NAME = HOSTILE[:30] + "\r\nerror: forged"


@pytest.mark.slow
def test_a_title_is_text_in_what_search_shows(synced: Synced, command: Callable[..., str]) -> None:
    synced.run("CREATE TABLE docs (id text PRIMARY KEY, body text, note text)")
    with synced.database.connect() as connection:
        connection.execute("INSERT INTO docs VALUES (%s, %s)", [HOSTILE, HOSTILE])
    synced.pipeline()
    printed = command("search", "docs", "x")
    is_text(printed)
    assert r"[/x][bold]a[link=http://evil] \x1b[2J" in printed
    document = command("search", "docs", "x", "--json", terminal=False)
    assert acts(document) == []
    assert json.loads(document)["hits"][0]["text"] == HOSTILE


def test_keys_and_reasons_are_text_in_lists(synced: Synced, command: Callable[..., str]) -> None:
    synced.run("CREATE TABLE docs (id text PRIMARY KEY, body text, note text)")
    synced.pipeline()
    canaries.witness().planted.add(HOSTILE)
    with synced.database.connect() as connection:
        connection.execute("INSERT INTO docs VALUES (%s, repeat('x', 10000))", [HOSTILE])
        synced.settle()
        connection.execute("UPDATE pgvector_sync.work SET error_message = %s", [HOSTILE])
        connection.execute("UPDATE pgvector_sync.pipeline SET state = 'misconfigured', reason = %s", [HOSTILE])
        connection.execute("UPDATE pgvector_sync.run SET reason = %s, state = 'failed'", [HOSTILE])
    shown = {
        arguments: command(*arguments, terminal=False)
        for arguments in (
            ("dead-letters", "list"),
            ("status",),
            ("runs", "list"),
            ("runs", "show", "1"),
            ("health",),
        )
    }
    for printed in shown.values():
        is_text(printed)
    for arguments in (("dead-letters", "list"), ("status",), ("runs", "show", "1")):
        assert r"\x1b[2J" in shown[arguments]
    is_text(command("doctor", "--offline", "--all", terminal=False))


def test_a_reason_is_text_on_a_terminal(synced: Synced, command: Callable[..., str]) -> None:
    synced.run("CREATE TABLE docs (id text PRIMARY KEY, body text, note text)")
    synced.pipeline()
    with synced.database.connect() as connection:
        connection.execute("UPDATE pgvector_sync.pipeline SET state = 'misconfigured', reason = %s", [HOSTILE])
    printed = command("status")
    is_text(printed)
    assert r"\x1b[2J" in printed


def test_names_of_tables_and_messages_of_the_database_are_text(
    synced: Synced, command: Callable[..., str]
) -> None:
    synced.run(
        *(
            statement.format(name='"' + NAME.replace('"', '""') + '"')
            for statement in ("CREATE TABLE {name} (id bigint PRIMARY KEY, body text)",)
        )
    )
    synced.declare("odd", source='"' + NAME.replace('"', '""') + '"')
    synced.plan()  # writes the file
    for arguments in (
        ("apply", "--dry-run", "-f", str(synced.file)),
        ("apply", "-f", str(synced.file), "--yes"),
        ("doctor", "--offline", "--all"),
    ):
        printed = command(*arguments, terminal=False)
        is_text(printed)
        assert r"[/x][bold]a[link=http://evil] \r\nerror: forged" in printed, arguments


def test_a_message_of_a_function_is_text_in_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    console.complain(f"permission denied for table {HOSTILE}", f"GRANT SELECT ON {HOSTILE}\nthen again")
    console.say(f"\n{HOSTILE}")
    printed = capsys.readouterr().err
    is_text(printed)
    assert "[/x]" in printed


def test_a_table_holds_one_line_per_row() -> None:
    file = io.StringIO()
    shown = console._Console(file=file, width=400, markup=False, emoji=False, highlight=False)
    shown.print(table([Hit((HOSTILE,), 0, 0.5, 0.5, HOSTILE, "m")]))
    assert len(file.getvalue().splitlines()) == 2
    is_text(file.getvalue())


@event("hostile")
class Hostile(Event):
    """An event with text from outside in every field."""

    pipeline: str
    reason: list[str]
    more: dict[str, str]


@pytest.fixture
def logged() -> Iterator[Callable[[str], str]]:
    """Formats an event as a line of the log."""
    root = logging.getLogger()
    before = root.handlers[:], root.level

    def line(format_: str) -> str:
        stream = io.StringIO()
        configure_logging(SimpleNamespace(log_format=format_, log_level="INFO"))
        (handler,) = root.handlers
        handler.emit = lambda record: stream.write(handler.format(record) + "\n") and None  # type: ignore[method-assign]
        emit(Hostile(pipeline=HOSTILE, reason=[HOSTILE], more={"a": HOSTILE}))
        logging.getLogger("celery.worker").error("a task %s failed", HOSTILE)
        return stream.getvalue()

    yield line
    root.handlers[:], root.level = before
    log._handlers.clear()


@pytest.mark.parametrize("format_", ["console", "json"])
def test_a_line_of_the_log_is_one_line_of_text(logged: Callable[[str], str], format_: str) -> None:
    printed = logged(format_)
    is_text(printed)
    assert len(printed.splitlines()) == 2
    if format_ == "json":
        assert [json.loads(line) for line in printed.splitlines()]


# -- passwords -------------------------------------------------------------------------------------------------

PIECES = st.one_of(st.from_regex(r"[QXZ][QXZ0-9]{5}", fullmatch=True), st.from_regex(r"[1-9]{5}", fullmatch=True))
JOINTS = st.sampled_from(
    ["@", ":", "/", "?", "#", "%", " ", "&", "=", ";", ",", "[", "]", "\\", "'", '"', "%41", "?a=", "/1?"]
)


@st.composite
def passwords(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A password with characters that have a meaning in a URL, and its pieces."""
    pieces = draw(st.lists(PIECES, min_size=2, max_size=4, unique=True))
    joints = [draw(JOINTS) for _ in pieces[1:]]
    return pieces[0] + "".join(joint + piece for joint, piece in zip(joints, pieces[1:], strict=True)), pieces


FORMS = {
    "DATABASE_URL": [
        "postgresql://localhost:{}@127.0.0.1:1/app", "postgres://localhost:{}@127.0.0.1:1/app?sslmode=disable",
        "postgresql+asyncpg://:{}@127.0.0.1:1/app", "host=127.0.0.1 port=1 password={}", "localhost:{}@127.0.0.1:1/app",
    ],
    "REDIS_URL": [
        "redis://:{}@127.0.0.1:1/0", "rediss://localhost:{}@127.0.0.1:1/0", "sentinel://localhost:{}@127.0.0.1:1/0",
        "localhost:{}@127.0.0.1:1", "valkey://localhost:{}@127.0.0.1:1",
    ],
    "CELERY_BROKER_URL": ["amqp://localhost:{}@127.0.0.1:1//", "redis://:{}@127.0.0.1:1/0"],
}  # fmt: skip
COMMANDS = {
    "DATABASE_URL": (("status",), ("doctor", "--offline"), ("health",), ("migrate",)),
    "REDIS_URL": (("doctor", "--offline"), ("worker",), ("beat",)),
    "CELERY_BROKER_URL": (("doctor", "--offline"),),
}


@pytest.mark.parametrize("variable", FORMS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_part_of_a_mistyped_password_is_shown(
    database_url: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    data: st.DataObject,
) -> None:
    password, pieces = data.draw(passwords())
    url = data.draw(st.sampled_from(FORMS[variable])).replace("{}", password)
    arguments = data.draw(st.sampled_from(COMMANDS[variable]))
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    if arguments[0] in ("worker", "beat"):
        with suppress(ConfigError):
            open_client(url, timeout=timedelta(seconds=1))
            return  # it can be parsed, so the command would wait for the database
    monkeypatch.setenv(variable, url)
    load_settings.cache_clear()
    try:
        main(list(arguments))
    except SystemExit as ended:
        assert ended.code in (0, 1, 2)  # noqa: PT017
    finally:
        load_settings.cache_clear()
    printed = "".join(capfd.readouterr())
    assert "Traceback" not in printed
    assert [piece for piece in pieces if piece in printed] == [], printed
