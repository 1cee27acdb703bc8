"""A key of another shape, type or length is parked, stops no program, and doesn't hold up other sources."""

from __future__ import annotations

import json
import random
import string
import time
from collections.abc import Callable

import psycopg
import pytest

from pgvector_sync.capture.drain import Drain
from pgvector_sync.observe.status import read_status
from support.keys import MALFORMED, UNUSABLE
from support.steps import Steps
from support.waiting import within

Typed = Callable[..., tuple[int, str, str]]

APPENDS = ("GRANT USAGE ON SCHEMA pgvector_sync TO {role}", "GRANT INSERT ON pgvector_sync.outbox TO {role}")
ENQUEUES = (
    "GRANT USAGE ON SCHEMA pgvector_sync TO {role}",
    "GRANT EXECUTE ON FUNCTION pgvector_sync.enqueue(text, anyelement) TO {role}",
)
LONG = "".join(random.Random(7).choices(string.ascii_letters + string.digits, k=6_400))


def append(docs: Steps, role: str, *keys: str, source: int = 1) -> None:
    """Appends events, as a role that may append them and nothing more."""
    with docs.synced.database.connect_as(role) as writer:
        for key in keys:
            writer.execute(
                "INSERT INTO pgvector_sync.outbox (source_id, key) VALUES (%s, %s::jsonb)", [source, key]
            )


def parked(docs: Steps) -> dict[str, int]:
    query = "SELECT error_class, count(*) FROM pgvector_sync.parked GROUP BY 1"
    return dict(docs.synced.database.execute(query))


def dead(docs: Steps) -> int:
    return read_status(docs.runtime.database)[0].dead


QUICK = {"[[1, 2]]", "[null]", "5", MALFORMED[-1], '["x"]'}


@pytest.mark.parametrize(
    "key",
    [key if key in QUICK else pytest.param(key, marks=pytest.mark.slow) for key in (*MALFORMED, *UNUSABLE)],
    ids=lambda key: key[:20],
)
@pytest.mark.quick_variants(5)
def test_a_role_that_may_append_events_cant_stop_sync_with_a_key_of_another_shape(
    docs: Steps, role: Callable[..., str], typed: Typed, key: str
) -> None:
    append(docs, role("writer", *APPENDS), key)
    docs.insert(_1="one", _2="two")
    docs.synced.settle()
    assert docs.synced.vectors().keys() == {(1,), (2,)}
    assert dead(docs) == 1
    code, out, _ = typed("dead-letters", "list", "--json")
    assert code == 0
    (letter,) = json.loads(out)["dead_letters"]
    assert letter["error_class"] == ("key_refused_54000" if len(key) > 2_000 else "key_malformed")
    code, out, _ = typed("dead-letters", "list")
    assert code == 0
    for command in (
        ("status",),
        ("status", "--exact"),
        ("runs", "list"),
        ("reconcile", "docs", "--deep", "--wait"),
    ):
        assert typed(*command)[0] in (0, 1), command
    docs.synced.settle()
    assert typed("dead-letters", "requeue", "docs", "--all")[0] == 0
    docs.synced.settle()
    assert dead(docs) == 1, "tried again, and parked again"
    assert typed("dead-letters", "discard", "docs", "--all")[0] == 0
    assert dead(docs) == 0
    assert docs.state()[0] == "active"


def test_the_owner_of_a_source_cant_stop_sync_with_the_trigger_function_on_another_table(
    docs: Steps, role: Callable[..., str]
) -> None:
    """The owner puts the function on another table, whose column has the name of the key and another type."""
    database = docs.synced.database
    owner = role(
        "owner",
        "GRANT EXECUTE ON FUNCTION pgvector_sync.insert_1() TO {role}",
        "GRANT USAGE ON SCHEMA pgvector_sync TO {role}",
        "CREATE SCHEMA AUTHORIZATION {role}",
    )
    with database.connect_as(owner) as attacker:
        for kind, value in (("int[]", "'{1,2}'"), ("jsonb", "'[[1]]'"), ("text", "'x'")):
            attacker.execute(f'CREATE TABLE "{owner}".own (id {kind}, body text)')
            attacker.execute(
                f'CREATE TRIGGER t AFTER INSERT ON "{owner}".own FOR EACH ROW EXECUTE FUNCTION pgvector_sync.insert_1()'
            )
            attacker.execute(f"INSERT INTO \"{owner}\".own VALUES ({value}, '')")
            attacker.execute(f'DROP TABLE "{owner}".own')
    docs.insert(_1="one")
    docs.synced.settle()
    assert docs.synced.vectors().keys() == {(1,)}


@pytest.mark.slow
def test_a_flood_of_bad_keys_is_parked_in_bulk_and_holds_up_no_other_source(
    docs: Steps, role: Callable[..., str], typed: Typed
) -> None:
    docs.synced.run("CREATE TABLE names (name text PRIMARY KEY, body text)")
    docs.synced.declare("names", source="names")
    docs.synced.apply()
    docs.synced.sync()
    with docs.synced.database.connect_as(role("writer", *APPENDS)) as writer:
        writer.execute(
            "INSERT INTO pgvector_sync.outbox (source_id, key) SELECT 2, jsonb_build_array("
            "(SELECT string_agg(md5(n::text || part::text), '') FROM generate_series(1, 200) AS part))"
            " FROM generate_series(1, 5000) AS n"
        )
        writer.execute(
            "INSERT INTO pgvector_sync.outbox (source_id, key) SELECT 2, '[[1]]' FROM generate_series(1, 5000)"
        )
    docs.insert(_1="one")
    began = time.monotonic()
    drain = Drain(docs.runtime.database, docs.runtime.settings.drain_rows)
    assert drain(until=within(30)) == 10_001
    assert docs.in_work() == [1]
    assert time.monotonic() - began < 10, "ten slices, where it was a minute"
    assert parked(docs) == {"key_refused_54000": 5_000, "key_malformed": 5_000}
    docs.synced.sync()
    assert typed("dead-letters", "discard", "names", "--bad-keys")[:2] == (
        0,
        "deleted 10,000 dead letters of names with a bad key\n",
    )
    assert docs.synced.events() == []


def test_parked_events_are_not_read_again_by_every_drain(docs: Steps, role: Callable[..., str]) -> None:
    append(docs, role("writer", *APPENDS), *["[[1]]"] * 300)
    docs.drain()
    assert parked(docs) == {"key_malformed": 300}
    assert docs.synced.database.value("SELECT count(*) FROM pgvector_sync.outbox") == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("('names', NULL::text)", "a key can't contain NULL"),
        (f"('names', '{LONG}'::text)", "the key of names is too long: 6404 bytes"),
        ("('names', '[[1, 2]]'::jsonb)", "a key can't contain an array"),
        ("('names', '{\"a\": 1}'::jsonb)", "a key can't contain an object"),
        ("('names', '[null]'::jsonb)", "a key can't contain NULL"),
        ("('names', '[\"a\", \"b\"]'::jsonb)", "expected the key of names, (name), got 2 values"),
        ("('docs', 'x'::text)", "invalid input syntax for type bigint"),
        ("('docs', 1e30)", "out of range"),
        ("('docs', '[[1]]'::jsonb)", "a key can't contain an array"),
    ],
)
@pytest.mark.quick_variants(4)
def test_enqueue_refuses_a_key_that_no_row_can_have_and_says_why(
    docs: Steps, role: Callable[..., str], call: str, words: str
) -> None:
    docs.synced.run("CREATE TABLE names (name text PRIMARY KEY, body text)")
    docs.synced.declare("names", source="names")
    docs.synced.apply()
    docs.synced.sync()
    application_role = role("application", *ENQUEUES)
    with (
        docs.synced.database.connect_as(application_role) as application,
        pytest.raises(psycopg.Error) as refused,
    ):
        application.execute(f"SELECT pgvector_sync.enqueue{call}")
    assert words in str(refused.value)
    assert docs.synced.events() == []


def test_enqueue_takes_a_long_key_that_fits_as_it_is_stored(docs: Steps, role: Callable[..., str]) -> None:
    """The limit applies to the stored, compressed size, as in the key's own table."""
    docs.synced.run("CREATE TABLE names (name text PRIMARY KEY, body text)")
    docs.synced.run("INSERT INTO names VALUES (repeat('a', 6400), 'long')")
    docs.synced.declare("names", source="names")
    docs.synced.apply()
    docs.synced.sync()
    with docs.synced.database.connect_as(role("application", *ENQUEUES)) as application:
        application.execute("SELECT pgvector_sync.enqueue('names', repeat('a', 6400))")
    assert len(docs.synced.events()) == 1
    docs.synced.sync()
    assert docs.synced.vectors("names").keys() == {("a" * 6400,)}


def test_an_event_with_an_infinite_time_stops_no_program(
    docs: Steps, role: Callable[..., str], typed: Typed
) -> None:
    with docs.synced.database.connect_as(role("writer", *APPENDS)) as writer:
        for at in ("infinity", "-infinity"):
            writer.execute("INSERT INTO pgvector_sync.outbox (source_id, key, at) VALUES (1, '[1]', %s)", [at])
            writer.execute("INSERT INTO pgvector_sync.outbox (source_id, key, at) VALUES (1, '[[1]]', %s)", [at])
    assert typed("status")[0] in (0, 1)
    docs.insert(_1="one")
    docs.synced.settle()
    assert docs.has_vector_of(1, "one")
    for command in (("dead-letters", "list"), ("dead-letters", "list", "--json"), ("status",)):
        assert typed(*command)[0] in (0, 1), command
