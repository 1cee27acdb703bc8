"""Log lines have one form, go to one stream, and leak nothing (G13)."""

import json
import logging
from types import SimpleNamespace

import psycopg
import pytest
import structlog

from pgvector_sync.errors import Refused
from pgvector_sync.telemetry import configure_logging, emit, log
from pgvector_sync.telemetry.event import Event, Level, event
from pgvector_sync.telemetry.events.dispatch import RelayFailed
from pgvector_sync.telemetry.events.process import WorkerReady
from pgvector_sync.telemetry.events.runs import ReconcileDue
from pgvector_sync.telemetry.leaks import WITHHELD, guard

READY = WorkerReady(hostname="celery@host")


@pytest.fixture
def configure():
    """Return `configure_logging`, and restore the previous configuration afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in log._VERBOSE}
    yield lambda form="json", level="INFO": configure_logging(SimpleNamespace(log_format=form, log_level=level))
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


@pytest.fixture
def lines(configure, capsys):
    """Configure JSON and return a function that returns the lines written to stderr since its last call."""
    configure()

    def read() -> list[dict[str, object]]:
        captured = capsys.readouterr()
        assert captured.out == ""
        return [json.loads(line) for line in captured.err.splitlines()]

    return read


@event("leaky")
class Leaky(Event):
    """An event that wouldn't be allowed: its field may contain anything."""

    pipeline: str
    text: str


@event("refused", Level.WARNING)
class WithError(Event):
    """An error that isn't of a class for unexpected ones."""

    refused: BaseException


def test_a_line_is_an_event_with_fields(lines):
    emit(ReconcileDue(pipeline="articles", deep=True))
    (line,) = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "reconcile_due", "level": "info", "pipeline": "articles", "deep": True}


def test_the_console_form_is_for_people(configure, capsys):
    configure("console")
    emit(Leaky(pipeline="articles", text="top secret"))
    error = capsys.readouterr().err
    assert "leaky" in error
    assert "pipeline=articles" in error
    assert "top secret" not in error


def test_the_level_holds_for_us_and_for_libraries(configure, capsys):
    configure(level="WARNING")
    emit(READY)
    logging.getLogger("some.library").info("hello")
    assert capsys.readouterr().err == ""


def test_at_debug_http_clients_still_log_no_requests(configure, capsys):
    configure(level="DEBUG")
    logging.getLogger("openai._base_client").debug("Request options: %s", {"json": {"input": ["top secret"]}})
    logging.getLogger("httpx").info("HTTP Request")
    assert capsys.readouterr().err == ""


def test_bound_fields_appear_in_every_line(lines):
    with structlog.contextvars.bound_contextvars(pipeline="articles"):
        emit(READY)
        logging.getLogger("some.library").warning("hello")
    ours, theirs = lines()
    assert ours["pipeline"] == theirs["pipeline"] == "articles"
    assert theirs["logger"] == "some.library"


def test_configuring_twice_writes_once(configure, capsys):
    configure()
    configure()
    emit(READY)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_structlogs_global_settings_stay_the_applications(configure):
    configure()
    assert not structlog.is_configured()


@pytest.mark.parametrize(
    "field",
    [
        "text",
        "texts",
        "chunk",
        "chunks",
        "input",
        "inputs",
        "query",
        "content",
        "body",
        "row",
        "embedding",
        "vectors",
        "detail",
        "api_key",
        "openai_api_key",
        "apikey",
        "password",
        "pgpassword",
        "db_password",
        "secret",
        "token",
        "access_token",
        "dsn",
        "conninfo",
        "database_url",
        "headers",
    ],
)
def test_a_field_that_may_leak_is_withheld(field):
    assert guard(None, "", {field: "hunter2"}) == {field: WITHHELD}


def test_counts_are_not_withheld():
    fields = {
        "inputs": 256,
        "saved_inputs": 3,
        "tokens": 9000,
        "rows": 1,
        "chunks": 2,
        "seconds": 0.5,
        "reason": None,
    }
    assert guard(None, "", dict(fields)) == fields


@pytest.mark.parametrize(
    "value",
    [
        "postgresql://app:hunter2@db:5432/x",
        "postgresql://app:p@hunter2@db/x",
        "redis://:hunter2@valkey/0",
        "connection to 'amqp://u:hunter2@mq//' failed",
        "host=db password=hunter2 user=app",
        "host=db password='hun ter2' user=app",
        r"password='a\'hunter2'",
        '{"api_key": "hunter2"}',
        "Incorrect API key provided: sk-hunter2",
        "Authorization: Bearer hunter2",
        "PGPASSWORD=hunter2 POSTGRES_PASSWORD='hunter2'",
        "duplicate key value\nDETAIL:  Key (email)=(hunter2) already exists.",
        "bad line\nCONTEXT:  COPY articles, line 1, column title: hunter2",
        {"nested": ["redis://:hunter2@valkey"]},
        {"password": "hunter2"},
        ({"text": "hunter2"},),
        b"hunter2",
        ValueError("hunter2"),
        psycopg.errors.UniqueViolation("Key (email)=(hunter2) already exists."),
    ],
    ids=str,
)
def test_no_secret_survives_in_a_value(value):
    shown = json.dumps(guard(None, "", {"event": "x", "value": value}))
    assert "hunter2" not in shown
    assert "ter2" not in shown


def test_hosts_and_plain_words_survive():
    fields = {
        "url": "redis://valkey:6379/0",
        "host": "api.openai.com",
        "pipeline": "articles",
        "key": [1, "a"],
    }
    assert guard(None, "", dict(fields)) == fields


def test_an_error_is_shown_by_class_sqlstate_and_place(lines):
    try:
        try:
            raise psycopg.errors.UniqueViolation("Key (email)=(bob) already exists.")
        except psycopg.Error as error:
            raise ValueError("bob again") from error
    except ValueError as error:
        emit(RelayFailed(error=error))
    (line,) = lines()
    assert line["error"] == "ValueError <- UniqueViolation: SQLSTATE 23505"
    assert "test_log.py" in line["at"]
    assert "bob" not in json.dumps(line)


def test_our_own_errors_keep_their_messages(lines):
    emit(WithError(refused=Refused("the table has no key")))
    assert lines()[0]["refused"] == "Refused: the table has no key"


def test_a_loop_of_causes_ends():
    first, second = ValueError("a"), KeyError("b")
    first.__cause__, second.__cause__ = second, first
    assert guard(None, "", {"error": first}) == {"error": "ValueError <- KeyError"}


def test_celerys_report_of_a_failed_task_carries_no_row(lines):
    celery = pytest.importorskip("celery")
    from celery.app.trace import build_tracer

    app = celery.Celery(broker="memory://", set_as_current=False)

    @app.task(name="fails")
    def fails():
        raise psycopg.errors.UniqueViolation("duplicate\nDETAIL:  Key (email)=(bob) already exists.")

    request = {"id": "1", "hostname": "h", "retries": 0, "is_eager": False}
    build_tracer("fails", fails, app=app)("1", (), {}, request)
    (line,) = (line for line in lines() if line["level"] == "error")
    assert line["event"] == "Task fails[1] raised unexpected"
    assert line["error"] == "UniqueViolation: SQLSTATE 23505"
    assert "bob" not in json.dumps(line)


def test_an_applications_handlers_get_no_message_of_an_error(caplog):
    try:
        int("bob")
    except ValueError as error:
        emit(RelayFailed(error=error))
    assert "relay_failed" in caplog.text
    assert "bob" not in caplog.text


def test_unconfigured_lines_are_guarded_too(caplog):
    caplog.set_level("INFO")
    emit(Leaky(pipeline="articles", text="top secret"))
    assert "leaky" in caplog.text
    assert "top secret" not in caplog.text
