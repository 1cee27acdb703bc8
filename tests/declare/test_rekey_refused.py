"""Changes of a key that can't be carried over are refused, with a way out."""

from __future__ import annotations

import pytest

from pgvector_sync.errors import Refused
from support.beginnings import begins_with, integer_keys
from support.synced import DROP_TRIGGERS, Synced

beginning, docs = begins_with(integer_keys(rows=30))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ALTER TABLE docs ALTER id TYPE smallint", r"was \(id integer\) and is now \(id smallint\)"),
        ("ALTER TABLE docs ALTER id TYPE text", r"was \(id integer\) and is now \(id text\)"),
        ("ALTER TABLE docs ALTER id TYPE numeric", r"was \(id integer\) and is now \(id numeric\)"),
        (
            "ALTER TABLE docs DROP CONSTRAINT docs_pkey, ADD PRIMARY KEY (id, body)",
            r"was \(id integer\) and is now \(id integer, body text\)",
        ),
    ],
)
def test_any_other_change_is_refused_with_a_way_out_that_works(docs: Synced, change: str, said: str):
    docs.run(*DROP_TRIGGERS, change)
    with pytest.raises(Refused, match=said) as refused:
        docs.plan()
    assert "pgvector-sync remove docs" in refused.value.hint
    docs.remove()
    docs.pipeline()


def test_columns_that_changed_places_are_refused(synced: Synced):
    synced.run(
        "CREATE TABLE docs (a int, b int, body text, PRIMARY KEY (a, b))", "INSERT INTO docs VALUES (1, 2, 'x')"
    )
    synced.pipeline()
    synced.run("ALTER TABLE docs DROP CONSTRAINT docs_pkey, ADD PRIMARY KEY (b, a)")
    with pytest.raises(Refused, match=r"was \(a integer, b integer\) and is now \(b integer, a integer\)"):
        synced.plan()


def test_another_column_beside_the_old_one_is_refused_and_the_way_out_keeps_the_vectors(docs: Synced):
    docs.run("ALTER TABLE docs ADD other bigint", "UPDATE docs SET other = id", *DROP_TRIGGERS)
    docs.run("ALTER TABLE docs ALTER other SET NOT NULL, DROP CONSTRAINT docs_pkey, ADD PRIMARY KEY (other)")
    with pytest.raises(Refused, match="but id still exists") as refused:
        docs.plan()
    assert "pgvector-sync remove docs --keep-vectors" in refused.value.hint
    paid = docs.paid()
    docs.remove(keep_vectors=True)
    docs.pipeline()
    assert docs.paid() == paid


def test_pipelines_that_declare_different_keys_of_one_source_are_refused(synced: Synced):
    synced.run("CREATE TABLE docs (id int PRIMARY KEY, slug text NOT NULL UNIQUE, body text)")
    synced.declare("one")
    synced.declare("two", key=["slug"])
    with pytest.raises(Refused, match=r"its key of public.docs is \(slug\), but that of pipeline one is \(id\)"):
        synced.plan()
