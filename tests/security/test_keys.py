"""A key of another shape, type or length is parked: it stops no program, and holds up no other source."""

from __future__ import annotations

import json
import random
import string
import time
from collections.abc import Callable

import psycopg
import pytest

from pgvector_sync.capture.drain import Drain
from pgvector_sync.model import KeyColumn
from pgvector_sync.observe.status import read_status
from pgvector_sync.runs.requests import request_reconcile
from pgvector_sync.store.canonical import is_usable
from support.steps import Steps

Typed = Callable[..., tuple[int, str, str]]

MALFORMED = (
    "[[1, 2]]",
    '[{"a": 1}]',
    "[null]",
    "[true]",
    "[]",
    "[1, 2]",
    "[1.5]",
    "[1.0]",
    "[1e30]",
    f"[{'9' * 40}]",
    "5",
    '"5"',
    "true",
    "null",
    "{}",
    '{"id": 1}',
    "[" * 1_200 + "]" * 1_200,
)
"""Shapes that are no key of any source with one column. As JSON numbers, 1e30 and the like are beyond every integer."""
UNUSABLE = ('["1"]', '["x"]', f"[{2**63}]", "[-9999999999999999999]", '["\\u202e\\u001b[31m"]')
"""Keys, but none of a bigint."""
APPENDS = ("GRANT USAGE ON SCHEMA pgvector_sync TO {role}", "GRANT INSERT ON pgvector_sync.outbox TO {role}")
ENQUEUES = (
    "GRANT USAGE ON SCHEMA pgvector_sync TO {role}",
    "GRANT EXECUTE ON FUNCTION pgvector_sync.enqueue(text, anyelement) TO {role}",
)
WORKS = (
    "GRANT USAGE ON SCHEMA pgvector_sync TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA pgvector_sync TO {role}",
)
"""What a worker could ever be granted."""
LONG = "".join(random.Random(7).choices(string.ascii_letters + string.digits, k=6_400))


def append(docs: Steps, role: str, *keys: str, source: int = 1) -> None:
    """Events, by a role that may append them and nothing more."""
    with docs.synced.database.connect_as(role) as writer:
        for key in keys:
            writer.execute(
                "INSERT INTO pgvector_sync.outbox (source_id, key) VALUES (%s, %s::jsonb)", [source, key]
            )


def parked(docs: Steps) -> dict[str, int]:
    query = "SELECT error_class, count(*) FROM pgvector_sync.outbox WHERE error_class IS NOT NULL GROUP BY 1"
    return dict(docs.synced.database.execute(query))


def dead(docs: Steps) -> int:
    return read_status(docs.runtime.database)[0].dead


QUICK = {"[[1, 2]]", "[null]", "5", MALFORMED[-1], '["x"]'}


@pytest.mark.parametrize(
    "key",
    [key if key in QUICK else pytest.param(key, marks=pytest.mark.slow) for key in (*MALFORMED, *UNUSABLE)],
    ids=lambda key: key[:20],
)
def test_who_may_append_events_cant_stop_sync_with_a_key_of_another_shape(
    docs: Steps, role: Callable[..., str], typed: Typed, key: str
) -> None:
    append(docs, role("writer", *APPENDS), key)
    docs.insert(_1="one", _2="two")
    docs.synced.settle()
    assert docs.synced.vectors().keys() == {(1,), (2,)}
    assert dead(docs) == 1
    code, out, _ = typed("dead-letters", "list", "--json")
    assert code == 0
    (letter,) = json.loads(out)
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


def test_the_owner_of_a_source_cant_stop_sync_through_a_trigger_function_of_his(
    docs: Steps, role: Callable[..., str]
) -> None:
    """On a table of his own, whose column has the name of the key and another type."""
    database = docs.synced.database
    owner = role(
        "owner",
        "GRANT EXECUTE ON FUNCTION pgvector_sync.capture_1() TO {role}",
        "GRANT USAGE ON SCHEMA pgvector_sync TO {role}",
        "CREATE SCHEMA AUTHORIZATION {role}",
    )
    with database.connect_as(owner) as attacker:
        for kind, value in (("int[]", "'{1,2}'"), ("jsonb", "'[[1]]'"), ("text", "'x'")):
            attacker.execute(f'CREATE TABLE "{owner}".own (id {kind}, body text)')
            attacker.execute(
                f'CREATE TRIGGER t AFTER INSERT ON "{owner}".own FOR EACH ROW EXECUTE FUNCTION pgvector_sync.capture_1()'
            )
            attacker.execute(f"INSERT INTO \"{owner}\".own VALUES ({value}, '')")
            attacker.execute(f'DROP TABLE "{owner}".own')
    docs.insert(_1="one")
    docs.synced.settle()
    assert docs.synced.vectors().keys() == {(1,)}


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
    assert drain(until=time.monotonic() + 30) == 10_001
    assert docs.in_work() == [1]
    assert time.monotonic() - began < 10, "ten slices, where it was a minute"
    assert parked(docs) == {"key_refused_54000": 5_000, "key_malformed": 5_000}
    docs.synced.sync()
    assert typed("dead-letters", "discard", "names", "--bad-keys")[:2] == (0, "removed 10,000 keys of names\n")
    assert docs.synced.events() == []


def test_parked_events_are_not_read_again_by_every_drain(docs: Steps, role: Callable[..., str]) -> None:
    append(docs, role("writer", *APPENDS), *["[[1]]"] * 300)
    docs.drain()
    docs.synced.run("VACUUM ANALYZE pgvector_sync.outbox")
    docs.insert(_1="one")
    plan = "EXPLAIN SELECT id FROM pgvector_sync.outbox WHERE id > 0 AND key IS NOT NULL AND error_class IS NULL ORDER BY id"
    with docs.synced.database.connect() as connection:
        connection.execute("SET enable_seqscan = off")
        lines = [line for (line,) in connection.execute(plan)]
    assert any("outbox_id" in line for line in lines), lines
    indexed = docs.synced.database.value("SELECT reltuples FROM pg_class WHERE relname = 'outbox_id'")
    assert indexed < 300


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("('names', NULL::text)", "a key holds no NULL"),
        (f"('names', '{LONG}'::text)", "this key of names is too long: 6404 bytes"),
        ("('names', '[[1, 2]]'::jsonb)", "a key holds no array"),
        ("('names', '{\"a\": 1}'::jsonb)", "a key holds no object"),
        ("('names', '[null]'::jsonb)", "a key holds no NULL"),
        ("('names', '[\"a\", \"b\"]'::jsonb)", "the key of names is (name)"),
        ("('docs', 'x'::text)", "invalid input syntax for type bigint"),
        ("('docs', 1e30)", "out of range"),
        ("('docs', '[[1]]'::jsonb)", "a key holds no array"),
    ],
)
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
    """As its own table does."""
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


# -- a worker's role --------------------------------------------------------------------------------------------

WRITES = (
    "INSERT INTO pgvector_sync.work (pipeline_id, key, lane, waiting_since, visible_at) VALUES (1, {key}, 'live', now(), now())",
    "UPDATE pgvector_sync.work SET key = {key}",
    "INSERT INTO pgvector_sync.run_key VALUES (1, {key})",
    "UPDATE pgvector_sync.run SET watermark = {key}",
)


@pytest.mark.parametrize("write", WRITES, ids=["work", "work changed", "run_key", "watermark"])
def test_a_worker_role_cant_write_a_key_that_another_program_cant_read(
    docs: Steps, role: Callable[..., str], write: str
) -> None:
    docs.insert(_1="one")
    docs.drain()
    with docs.synced.database.connect_as(role("worker", *WORKS)) as worker:
        for key in MALFORMED:
            if key == "[1, 2]":
                continue
            with pytest.raises((psycopg.errors.CheckViolation, psycopg.errors.NotNullViolation)):
                worker.execute(write.format(key=f"'{key}'::jsonb"))


def test_work_that_a_worker_role_has_written_is_parked_in_bulk_and_all_others_are_embedded(
    docs: Steps, role: Callable[..., str]
) -> None:
    with docs.synced.database.connect_as(role("worker", *WORKS)) as worker:
        for key in (*UNUSABLE, "[1, 2]"):
            worker.execute(WRITES[0].format(key=f"'{key}'::jsonb"))
        worker.execute(
            "INSERT INTO pgvector_sync.work (pipeline_id, key, lane, waiting_since, visible_at)"
            " SELECT 1, jsonb_build_array('bad ' || n), 'live', now(), now() FROM generate_series(1, 1000) AS n"
        )
    docs.insert(_1="one", _2="two")
    docs.synced.settle()
    assert docs.synced.vectors().keys() == {(1,), (2,)}
    assert {error for _, error in docs.synced.dead()} == {"key_malformed"}
    assert len(docs.synced.dead()) == 1_006
    assert docs.state()[0] == "active"


@pytest.mark.parametrize("key", UNUSABLE)
def test_a_watermark_of_another_type_begins_the_fill_anew(docs: Steps, role: Callable[..., str], key: str) -> None:
    docs.insert(**{f"_{n}": f"text {n}" for n in range(1, 20)})
    docs.synced.sync()
    docs.synced.run(
        "TRUNCATE docs_embedding", "INSERT INTO pgvector_sync.run (pipeline_id, kind) VALUES (1, 'fill')"
    )
    with docs.synced.database.connect_as(role("worker", *WORKS)) as worker:
        worker.execute(f"UPDATE pgvector_sync.run SET watermark = '{key}' WHERE state = 'running'")
    docs.synced.settle()
    assert len(docs.synced.vectors()) == 19


def test_runs_that_a_worker_role_has_spoilt_stop_no_program(
    docs: Steps, role: Callable[..., str], typed: Typed
) -> None:
    docs.insert(_1="one")
    docs.synced.sync()
    request_reconcile(docs.runtime.database, "docs")
    deep = "'" + "[" * 3_000 + "]" * 3_000 + "'"
    with docs.synced.database.connect_as(role("worker", *WORKS)) as worker:
        for column in ("samples", "counts", "options"):
            for value in (
                "'[[1]]'",
                "'5'",
                '\'{"missing": [[[1]], 5, null], "rows": "x"}\'',
                deep,
                f"'[{'9' * 5000}]'",
            ):
                worker.execute(
                    f"INSERT INTO pgvector_sync.run (pipeline_id, kind, state, {column}, finished_at)"
                    f" VALUES (1, 'reconcile', 'finished', {value}, now())"
                )
                worker.execute(
                    f"INSERT INTO pgvector_sync.run (pipeline_id, kind, {column}) VALUES (1, 'reembed', {value})"
                )
        worker.execute("UPDATE pgvector_sync.run SET started_at = 'infinity' WHERE id = 3")
        worker.execute("UPDATE pgvector_sync.run SET finished_at = '-infinity' WHERE id = 4")
        worker.execute("UPDATE pgvector_sync.run SET options = '{\"keys\": true}' WHERE id = 5")
        worker.execute("INSERT INTO pgvector_sync.run_key SELECT 5, '[\"x\"]'")
    docs.change(1, "changed")
    docs.synced.settle()
    assert docs.has_vector_of(1, "changed")
    for command in (("runs", "list"), ("runs", "list", "--json"), ("status",), ("reconcile", "--trend")):
        assert typed(*command)[0] in (0, 1), command
    for run in range(1, 20):
        code, out, err = typed("runs", "show", str(run))
        assert code == 0, (out, err)


@pytest.mark.parametrize("column", ["parked_at", "visible_at", "waiting_since"])
def test_a_date_without_end_in_work_stops_no_program(
    docs: Steps, role: Callable[..., str], typed: Typed, column: str
) -> None:
    docs.synced.endpoint.fail(status=400, code="content_filter", marker="poison")
    docs.insert(_1="poison", _2="fine")
    docs.synced.settle()
    docs.synced.endpoint.heal()
    with docs.synced.database.connect_as(role("worker", *WORKS)) as worker:
        change = f"UPDATE pgvector_sync.work SET {column} = %s WHERE key = '[1]'"
        for value in ("infinity", "-infinity"):
            with pytest.raises(psycopg.errors.CheckViolation):
                worker.execute(change, [value])
        assert worker.execute(change, ["20000-01-01"]).rowcount == 1
    for command in (("dead-letters", "list"), ("dead-letters", "list", "--json"), ("status",)):
        assert typed(*command)[0] in (0, 1), command


def test_an_event_from_the_end_of_time_stops_no_program(
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


@pytest.mark.parametrize(
    ("kind", "usable", "unusable"),
    [
        ("smallint", [-32768, 32767], [32768, "1", 1.0]),
        ("bigint", [0, 2**63 - 1], [2**63, "0"]),
        ("text", ["", "1", "\x1b", "true"], [1]),
        ("uuid", ["0ae1b7c4-0000-4000-8000-00000000000f"], ["x", "{0ae1b7c4-0000-4000-8000-00000000000f}", 7]),
        ("numeric", ["1.5", "NaN", "-Infinity", "0"], ["1.50", "sNaN", "NaN1", "1e999999999", "1_0", "x", 1]),
        ("boolean", ["true", "false"], ["t", 1, "x"]),
        (
            "date",
            ["2024-02-29", "infinity", "12345-01-01", "4714-11-24 BC", "5874897-12-31"],
            [
                "2023-02-29",
                "99999-99-99",
                "5874898-01-01",
                "4714-11-23 BC",
                "0000-01-01",
                "2024-W09-4",
                "20240229",
            ],
        ),
        (
            "timestamp without time zone",
            ["2024-02-29T12:30:45.5", "294276-12-31T23:59:59.999999"],
            ["294277-01-01T00:00:00", "12345-01-01T25:00:00", "2024-02-29T12:30:45Z", "12345-02-30T00:00:00"],
        ),
        (
            "timestamp with time zone",
            ["2024-02-29T12:30:45Z", "0044-03-15T01:02:03.4Z BC"],
            [
                "2024-02-29T12:30:45",
                "12345-01-01T00:00:00",
                "0044-02-30T00:00:00Z BC",
                "9999-12-31T23:59:59+14:00",
            ],
        ),
    ],
)
def test_only_what_a_trigger_writes_is_a_key(
    docs: Steps, kind: str, usable: list[int | str], unusable: list[int | str]
) -> None:
    """And Postgres agrees, with a cast."""
    columns = [KeyColumn("id", kind)]
    for part in usable:
        assert is_usable((part,), columns), part
        docs.synced.database.execute(f"SELECT (jsonb_build_array(%s::text) ->> 0)::{kind}::text", str(part))
    for part in unusable:
        assert not is_usable((part,), columns), part  # type: ignore[arg-type]
