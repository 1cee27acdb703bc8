"""A silent server is given up, a slow one is not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest

from pgvector_sync.database import Database
from support.proxy import Proxy
from support.servers import Postgres

SILENCE = timedelta(seconds=0.5)
LOCK_TIMEOUT = timedelta(milliseconds=50)


@pytest.fixture
def proxy(postgres: Postgres) -> Iterator[Proxy]:
    with Proxy(postgres.url) as proxy:
        yield proxy


@pytest.fixture
def ours(proxy: Proxy) -> Iterator[Database]:
    with Database(proxy.url, lock_timeout=LOCK_TIMEOUT, silence=SILENCE) as database:
        yield database


def test_a_statement_on_a_half_open_connection_is_given_up_and_the_next_connection_is_good(
    proxy: Proxy, ours: Database
) -> None:
    with ours.connection() as connection:
        proxy.mute()
        began = time.monotonic()
        with pytest.raises(psycopg.OperationalError, match="silent"):
            connection.execute("SELECT 1")
    assert SILENCE.total_seconds() <= time.monotonic() - began < SILENCE.total_seconds() + 1
    proxy.heal()
    with ours.transaction() as connection:
        assert connection.execute("SELECT 1 AS one").fetchone() == {"one": 1}


def test_an_answer_that_arrives_slowly_is_not_given_up(ours: Database) -> None:
    slow = "SELECT repeat('x', 20000) AS x, pg_sleep(0.1)::text AS y FROM generate_series(1, 12)"
    with ours.transaction() as connection:
        began = time.monotonic()
        assert len(connection.execute(slow).fetchall()) == 12
    assert time.monotonic() - began > 2 * SILENCE.total_seconds()


def test_without_a_limit_a_long_silence_is_tolerated(proxy: Proxy) -> None:
    with Database(proxy.url, lock_timeout=LOCK_TIMEOUT) as patient, patient.transaction() as connection:
        connection.execute("SELECT pg_sleep(0.8)")
