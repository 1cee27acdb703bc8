"""The app without a process: hosts, methods, headers, and how each error is shown."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from pgvector_sync.database.read_only import ReadOnlyDatabase
from pgvector_sync.errors import ConfigError, Refused
from pgvector_sync.settings import Settings
from pgvector_sync.store import pipelines
from pgvector_sync.telemetry.events.web import RequestBroke, RequestFailed
from pgvector_sync.web import app as web
from pgvector_sync.web import auth, gate
from support.events import collected
from support.servers import Database

LIMIT = timedelta(seconds=5)


def read_only(url: str, statement_limit: timedelta = LIMIT) -> ReadOnlyDatabase:
    return ReadOnlyDatabase(
        url,
        lock_timeout=timedelta(milliseconds=50),
        max_connections=web.THREADS,
        statement_limit=statement_limit,
        connect_limit=timedelta(seconds=2),
    )


@pytest.fixture
def reading(database: Database) -> Iterator[ReadOnlyDatabase]:
    with read_only(database.url) as opened:
        yield opened


@pytest.fixture
def asked(reading: ReadOnlyDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Returns the response of a page that runs `answer`, or raises what it raises."""

    def ask(answer: Callable[[], object], path: str = "/page", **headers: str) -> Any:
        def page(_: Request) -> Response:
            return PlainTextResponse(str(answer()))

        monkeypatch.setattr(web.pages, "routes", lambda *_: [Route("/page", page), Route("/page.json", page)])
        with TestClient(web.create_app(reading, Settings()), base_url="http://127.0.0.1") as client:
            return client.get(path, headers=headers)

    return ask


def client_of(database: ReadOnlyDatabase, **options: Any) -> TestClient:
    return TestClient(web.create_app(database, Settings(), **options), base_url="http://127.0.0.1:8187")


def raising(error: Exception) -> Callable[[], object]:
    def answer() -> object:
        raise error

    return answer


def test_an_unknown_pipeline_is_a_404_with_the_known_names(reading: ReadOnlyDatabase, asked: Any) -> None:
    def answer() -> object:
        with reading.transaction() as connection:
            return pipelines.require_pipeline(connection, "gone")

    response = asked(answer)
    assert response.status_code == 404
    assert "there is no pipeline gone" in response.text
    assert asked(answer, "/page.json").json()["error"] == {
        "status": 404,
        "title": "Unknown pipeline",
        "text": "there is no pipeline gone",
        "hint": "declare one and run `pgvector-sync apply`",
    }


def test_an_unexpected_error_shows_nothing_of_itself_and_is_logged(asked: Any) -> None:
    with collected() as events:
        response = asked(raising(ValueError("a row's text")))
    assert response.status_code == 500
    assert "a row's text" not in response.text
    assert "the log of <code>pgvector-sync serve</code> names its place" in response.text
    assert response.headers["x-frame-options"] == "DENY"
    [event] = events.of(RequestBroke)
    assert (event.route, type(event.error)) == ("/page", ValueError)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Refused("no", hint="do"), 409),
        (ConfigError("no", hint="do"), 400),
        (psycopg.OperationalError("no"), 503),
        (psycopg.errors.QueryCanceled("no"), 503),
        (psycopg.errors.UndefinedTable("no"), 503),
        (psycopg.errors.SyntaxError("no"), 500),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_has_its_status_and_only_those_of_the_server_are_logged(
    asked: Any, error: Exception, status: int
) -> None:
    with collected() as events:
        response = asked(raising(error))
    assert response.status_code == status
    assert "→" in response.text or "do" in response.text
    assert bool(events.of(RequestFailed)) == (status >= 500)
    assert not events.of(RequestBroke)


def test_a_request_that_gets_no_thread_is_given_up_and_livez_needs_none(
    reading: ReadOnlyDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, released = threading.Semaphore(0), threading.Event()

    def page(_: Request) -> Response:
        begun.release()
        return PlainTextResponse(str(released.wait(20)))

    monkeypatch.setattr(web.pages, "routes", lambda *_: [Route("/page", page)])
    with client_of(reading) as client, ThreadPoolExecutor(web.THREADS) as threads:
        slow = [threads.submit(client.get, "/page") for _ in range(web.THREADS)]
        for _ in slow:
            assert begun.acquire(timeout=10)
        assert client.get("/livez").status_code == 200
        monkeypatch.setattr(gate, "REQUEST_LIMIT", timedelta(milliseconds=50))
        response = client.get("/metrics")
        assert (response.status_code, "Too slow" in response.text) == (503, True)
        released.set()
        assert [each.result(10).status_code for each in slow] == [200] * web.THREADS


def test_every_response_has_the_security_headers(reading: ReadOnlyDatabase) -> None:
    with client_of(reading) as client:
        for path in ("/livez", "/readyz", "/metrics", "/no/such/page"):
            headers = client.get(path).headers
            assert headers["cache-control"] == "no-store"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src '")
            assert "unsafe" not in policy
            assert not {name for name in headers if name.startswith("access-control")}


def test_nothing_but_get_and_head_is_allowed(reading: ReadOnlyDatabase) -> None:
    with client_of(reading) as client:
        assert client.head("/livez").status_code == 200
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            response = client.request(method, "/livez")
            assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:8187", True),
        ("[::1]:8187", True),
        ("10.1.2.3:8187", True),
        ("LOCALHOST:8187", True),
        ("status.example.com", True),
        ("attacker.example", False),
        ("localhost.attacker.example", False),
        ("127.0.0.1.attacker.example", False),
        ("", False),
    ],
)
def test_a_name_that_was_rebound_to_this_machine_reads_nothing(
    reading: ReadOnlyDatabase, host: str, allowed: bool
) -> None:
    with client_of(reading, allowed_hosts=("Status.example.com",)) as client:
        response = client.get("/metrics", headers={"host": host})
    assert response.status_code == (200 if allowed else 421)
    if not allowed:
        assert "--allowed-host" in response.text


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic !!!", "Basic dXNlcg==", "Digest x", "Bearer \u00fcnicode", "Basic dXNlcjo="],
)
def test_a_broken_authorization_is_no_token(header: str) -> None:
    assert not auth.has_token({"authorization": header}, "correct-horse-battery-staple")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("DELETE FROM pgvector_sync.applied_migration WHERE number = 2", "the schema lacks 0002_runs"),
        (
            "INSERT INTO pgvector_sync.applied_migration VALUES (99, 'later', '', true, '9.0.0')",
            "0099_later, which shuts out this program",
        ),
    ],
    ids=["older", "newer"],
)
def test_a_database_whose_schema_does_not_fit_is_not_ready(
    reading: ReadOnlyDatabase, database: Database, change: str, problem: str
) -> None:
    database.execute(change)
    with client_of(reading) as client:
        response = client.get("/readyz")
        assert (response.status_code, response.json()["reason"]) == (503, "schema_differs")
        assert problem in response.json()["problem"]
        assert client.get("/livez").status_code == 200


def test_a_database_without_our_schema_is_not_ready(bare_database_url: str) -> None:
    with read_only(bare_database_url) as database, client_of(database) as client:
        response = client.get("/readyz")
    assert response.json()["problem"] == "this database has no pgvector_sync schema"
    assert response.json()["hint"] == "run `pgvector-sync migrate`"


def test_its_transactions_can_not_write_and_end_after_the_limit(database: Database) -> None:
    with read_only(database.url, timedelta(milliseconds=100)) as reading:
        for opened in (reading.transaction(read_only=False), reading.connection()):
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), opened as connection:
                connection.execute("CREATE TABLE written (id int)")
        with pytest.raises(psycopg.errors.QueryCanceled), reading.transaction() as connection:
            connection.execute("SELECT pg_sleep(10)")
        with reading.transaction() as connection:
            assert connection.execute("SELECT 1 AS one").fetchone() == {"one": 1}
