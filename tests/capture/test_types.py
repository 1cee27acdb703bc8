"""A change of a tracked column is captured whatever its type is, if the text of the value changes (G1).

The trigger compares most types by their equality, and some by their images. Values may be equal although they read
differently: 1.0 and 1.00, one day and 24 hours, arrays with other bounds.
"""

from __future__ import annotations

import itertools

import pytest

from support.synced import Synced

VALUES = {
    "numeric": ("1.0", "1.00", "'NaN'", "0", "'-0.0'", "0.000"),
    "numeric(6,2)": ("1", "1.01"),
    "float8": ("0", "'-0'", "'NaN'", "1", "'Infinity'"),
    "float4": ("0", "'-0'", "1.1"),
    "smallint": ("0", "-1"),
    "boolean": ("true", "false"),
    "money": ("'1'", "'2'"),
    "oid": ("1", "2"),
    "text": ("'a'", "'a '", "'A'", "''", r"E'a\u0301'", r"E'\u00e1'"),
    "varchar(9)": ("'a'", "'a '", "'A'"),
    "char(4)": ("'a'", "'A'", "''"),
    "name": ("'a'", "'A'"),
    '"char"': ("'a'", "'b'"),
    "bytea": ("'a'", r"'\x6100'", "''"),
    "json": ("""'{"a":1}'""", """'{ "a":1}'"""),
    "jsonb": ("'1.0'", "'1.00'", """'{"a":1.0}'""", """'{"a":1.00}'""", "'null'"),
    "tsvector": ("'a:1'", "'a:2'", "'a'"),
    "date": ("'2024-01-01'", "'infinity'", "'-infinity'", "'4713-01-01 BC'"),
    "time": ("'24:00'", "'00:00'"),
    "timetz": ("'12:00+00'", "'14:00+02'"),
    "timestamptz": ("'2024-01-01 00:00+00'", "'2024-01-01 00:00:00.000001+00'", "'infinity'", "'-infinity'"),
    "interval": ("'1 day'", "'24 hours'", "'30 days'", "'1 month'"),
    "uuid": ("'0000000000000000000000000000000a'", "'0000000000000000000000000000000b'"),
    "inet": ("'10.0.0.1'", "'10.0.0.1/8'", "'::1'"),
    "cidr": ("'10.0.0.0/8'", "'10.0.0.0/9'"),
    "macaddr": ("'08:00:2b:01:02:03'", "'08:00:2b:01:02:04'"),
    "pg_lsn": ("'0/1'", "'0/2'"),
    "bit(3)": ("'101'", "'111'"),
    "varbit": ("'1'", "'10'", "''"),
    "int[]": ("'{1}'", "'[2:2]={1}'", "'{{1}}'", "'{}'"),
    "numeric[]": ("'{1.0}'", "'{1.00}'", "'[2:2]={1.0}'"),
    "float8[]": ("'{0}'", "'{-0}'"),
    "text[]": ("'{a}'", "'{A}'", "'[2:2]={a}'", "'{NULL}'", "'{}'"),
    "int4range": ("'[1,2)'", "'[1,3)'", "'empty'"),
    "numrange": ("'[1,2]'", "'[1.0,2]'", "'[1,2.0]'", "'empty'"),
    "nummultirange": ("'{[1,2]}'", "'{[1.0,2]}'"),
    "point": ("'(0,0)'", "'(1e-9,0)'", "'(-0,0)'"),
    "box": ("'(0,0),(1,1)'", "'(0,0),(1,1.0000001)'", "'((0,0),(0.5,2))'"),
    "path": ("'[(0,0),(1,1)]'", "'((0,0),(1,1))'"),
    "circle": ("'<(0,0),1>'", "'<(1,0),1>'"),
    "mood": ("'sad'", "'ok'"),
    "pair": ("ROW(1.0,'a')", "ROW(1.00,'a')", "ROW(1.0,'A')"),
    "pair[]": ("ARRAY[ROW(1.0,'a')]::pair[]", "ARRAY[ROW(1.00,'a')]::pair[]"),
    "named_number": ("1.0", "1.00"),
    # numbers with the names of types that are compared by their equality
    'public."text"': ("1.0", "1.00"),
    'public."integer"': ("1.0", "1.00"),
    'public."character varying"': ("1.0", "1.00"),
}
"""Types with values of which each reads differently."""


@pytest.fixture
def types(synced: Synced) -> list[str]:
    """A table with a column of each type, all of which the pipeline reads. Returns the types."""
    synced.run(
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "CREATE TYPE pair AS (a numeric, b pg_catalog.text)",
        *(
            f'CREATE DOMAIN public."{name}" AS numeric'
            for name in ("text", "integer", "character varying", "named_number")
        ),
    )
    types = list(VALUES)
    columns = ", ".join(f"c{i} {'pg_catalog.text' if kind == 'text' else kind}" for i, kind in enumerate(types))
    synced.run(f"CREATE TABLE docs (id int PRIMARY KEY, {columns})", "INSERT INTO docs VALUES (1)")
    synced.declare(text=[f"c{i}" for i in range(len(types))])
    synced.apply()
    return types


def test_a_change_that_reads_differently_is_captured_for_every_type(synced: Synced, types: list[str]) -> None:
    lost = []
    with synced.database.connect() as session:
        for i, kind in enumerate(types):
            for before, after in itertools.permutations((*VALUES[kind], "NULL"), 2):
                session.execute(f"UPDATE docs SET c{i} = {before}")
                session.execute("DELETE FROM pgvector_sync.outbox")
                session.execute(f"UPDATE docs SET c{i} = {after}")
                if not session.execute("SELECT count(*) FROM pgvector_sync.outbox").fetchone()[0]:
                    lost.append((kind, before, after))
    assert lost == []


def test_a_value_that_stays_as_it_is_is_not_captured(synced: Synced, types: list[str]) -> None:
    needless = []
    with synced.database.connect() as session:
        for i, kind in enumerate(types):
            session.execute(f"UPDATE docs SET c{i} = {VALUES[kind][0]}")
            session.execute("DELETE FROM pgvector_sync.outbox")
            session.execute(f"UPDATE docs SET c{i} = {VALUES[kind][0]}")
            if session.execute("SELECT count(*) FROM pgvector_sync.outbox").fetchone()[0]:
                needless.append(kind)
    assert needless == []
