"""A shopkeeper who owns schema, source and target, and tries to have code executed with the triggers' rights.

The triggers belong to a superuser, the worst case. The shopkeeper's code records the name of the role that executes it
in `shop.loot`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import psycopg

from pgvector_sync.engine import watch
from pgvector_sync.observe.status import read_status
from pgvector_sync.runtime import Runtime
from support.synced import Synced, runtime_of

Role = Callable[..., str]
Connection = psycopg.Connection[Any]

ROWS = "INSERT INTO shop.docs SELECT g, 'row ' || g FROM generate_series(1, 4) g"
PARTITIONS = (
    "CREATE TABLE shop.docs (id bigint PRIMARY KEY, body text) PARTITION BY RANGE (id)",
    "CREATE TABLE shop.docs_1 PARTITION OF shop.docs FOR VALUES FROM (0) TO (3)",
    "CREATE TABLE shop.docs_2 PARTITION OF shop.docs FOR VALUES FROM (3) TO (1000)",
)
LOOT = (
    "CREATE TABLE shop.loot (who text)",
    "GRANT INSERT ON shop.loot TO public",
    "GRANT USAGE ON SCHEMA shop TO public",
    # volatile, so that it can write; its callers are declared immutable, so that the planner may evaluate them
    """CREATE FUNCTION shop.take() RETURNS int LANGUAGE sql
       AS 'INSERT INTO shop.loot VALUES (current_user) RETURNING 1'""",
    """CREATE FUNCTION shop.fold() RETURNS boolean LANGUAGE plpgsql IMMUTABLE
       AS 'BEGIN PERFORM shop.take(); RETURN true; END'""",
    """CREATE FUNCTION shop.fire() RETURNS trigger LANGUAGE plpgsql
       AS 'BEGIN PERFORM shop.take(); RETURN OLD; END'""",
)

TYPES = {
    "an enum with a cast to json": (
        "CREATE TYPE shop.k AS ENUM ('1', '9')",
        """CREATE FUNCTION shop.cast(shop.k) RETURNS json LANGUAGE plpgsql
           AS 'BEGIN PERFORM shop.take(); RETURN to_json(1); END'""",
        "CREATE CAST (shop.k AS json) WITH FUNCTION shop.cast(shop.k)",
    ),
    "an enum with an implicit cast to bigint": (
        "CREATE TYPE shop.k AS ENUM ('1', '9')",
        """CREATE FUNCTION shop.cast(shop.k) RETURNS bigint LANGUAGE plpgsql
           AS 'BEGIN PERFORM shop.take(); RETURN 1; END'""",
        "CREATE CAST (shop.k AS bigint) WITH FUNCTION shop.cast(shop.k) AS IMPLICIT",
    ),
    "an enum with an implicit cast to text": (
        "CREATE TYPE shop.k AS ENUM ('1', '9')",
        """CREATE FUNCTION shop.cast(shop.k) RETURNS text LANGUAGE plpgsql
           AS 'BEGIN PERFORM shop.take(); RETURN 1; END'""",
        "CREATE CAST (shop.k AS text) WITH FUNCTION shop.cast(shop.k) AS IMPLICIT",
    ),
    "an array of such an enum": (
        "CREATE TYPE shop.e AS ENUM ('1', '9')",
        """CREATE FUNCTION shop.cast(shop.e) RETURNS json LANGUAGE plpgsql
           AS 'BEGIN PERFORM shop.take(); RETURN to_json(1); END'""",
        "CREATE CAST (shop.e AS json) WITH FUNCTION shop.cast(shop.e)",
        "CREATE DOMAIN shop.k AS shop.e[]",
    ),
    "a domain": ("CREATE DOMAIN shop.k AS bigint CHECK (shop.fold())",),
    "a composite": ("CREATE TYPE shop.e AS ENUM ('1')", "CREATE TYPE shop.k AS (a shop.e, b bigint)"),
}
"""Key types whose values can only be read by executing code of the type's owner."""


def serve(synced: Synced, owner: str, *tables: str) -> None:
    """Creates the owner's table, makes it a source, and syncs it."""
    with synced.database.connect_as(owner) as connection:
        for statement in tables or ("CREATE TABLE shop.docs (id bigint PRIMARY KEY, body text)",):
            connection.execute(statement)
        connection.execute(ROWS)
        connection.execute("GRANT SELECT ON shop.docs TO public")
    synced.declare(source="shop.docs")
    apply(synced)
    with superuser(synced) as runtime:
        synced.settle(runtime=runtime)


def superuser(synced: Synced) -> AbstractContextManager[Runtime]:
    """A runtime of the superuser, who owns the trigger functions."""
    return runtime_of(synced.database.url, synced.runtime.embedder)


def apply(synced: Synced) -> None:
    with superuser(synced) as runtime:
        synced.apply(runtime)


def problem(synced: Synced) -> str:
    """Why the schema watch has stopped the pipeline."""
    watch.look_now(synced.runtime.database)
    [status] = read_status(synced.runtime.database, "docs")
    assert status.state == "misconfigured"
    assert status.reason is not None
    return status.reason


def unreadable(synced: Synced) -> int:
    query = "SELECT count(*) FROM pgvector_sync.parked WHERE error_class = 'key_unreadable'"
    return int(synced.database.value(query))
