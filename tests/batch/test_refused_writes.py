"""A target that refuses what is written: if it refuses every row, the pipeline stops; if it refuses one row, that row is parked."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pgvector_sync.engine.loop import Loop
from pgvector_sync.errors import Refused
from pgvector_sync.store import pipelines
from pgvector_sync.store.target_table import demands
from support.steps import Steps

ROWS = 40
NOT_NULL = (
    "ALTER TABLE docs_embedding ADD tenant_id int NOT NULL DEFAULT 1",
    "ALTER TABLE docs_embedding ALTER tenant_id DROP DEFAULT",
)
FAILING = (
    "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$",
    "CREATE TRIGGER fails BEFORE INSERT ON docs_embedding FOR EACH ROW EXECUTE FUNCTION fails()",
)
SWALLOWING = (
    "CREATE FUNCTION swallows() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
    "CREATE TRIGGER swallows BEFORE INSERT ON docs_embedding FOR EACH ROW EXECUTE FUNCTION swallows()",
)
REFUSED = "public.docs_embedding refuses every write ({})"
AS_A_WHOLE = {
    "not null": (
        NOT_NULL,
        "ALTER TABLE docs_embedding DROP tenant_id",
        REFUSED.format(23502) + ": column tenant_id is NOT NULL without a default",
    ),
    "check": (
        ("ALTER TABLE docs_embedding ADD CONSTRAINT never CHECK (chunk_no > 0) NOT VALID",),
        "ALTER TABLE docs_embedding DROP CONSTRAINT never",
        REFUSED.format(23514) + ": check constraint never may refuse rows",
    ),
    "foreign key": (
        (
            "CREATE TABLE tenants (id bigint PRIMARY KEY)",
            "ALTER TABLE docs_embedding ADD CONSTRAINT tenant FOREIGN KEY (id) REFERENCES tenants NOT VALID",
        ),
        "ALTER TABLE docs_embedding DROP CONSTRAINT tenant",
        REFUSED.format(23503) + ": foreign key tenant may refuse rows",
    ),
    "trigger": (
        FAILING,
        "DROP TRIGGER fails ON docs_embedding",
        REFUSED.format("P0001") + ": trigger fails may refuse or change what is written",
    ),
    "swallowed": (
        SWALLOWING,
        "DROP TRIGGER swallows ON docs_embedding",
        "public.docs_embedding: expected ",
    ),
    "dropped column": (
        ("ALTER TABLE docs_embedding RENAME embedding TO gone",),
        "ALTER TABLE docs_embedding RENAME gone TO embedding",
        "",
    ),
    "retyped column": (
        (
            "ALTER TABLE docs_embedding ALTER embedding TYPE vector(9) USING (embedding::real[] || 0::real)::vector(9)",
        ),
        "ALTER TABLE docs_embedding ALTER embedding TYPE vector(8) USING subvector(embedding, 1, 8)",
        REFUSED.format(22000) + ": expected column embedding vector(8), got vector(9)",
    ),
    "no key": (
        ("ALTER TABLE docs_embedding DROP CONSTRAINT docs_embedding_pkey",),
        "ALTER TABLE docs_embedding ADD PRIMARY KEY (id, chunk_no)",
        REFUSED.format("42P10") + ": no unique index on exactly (id, chunk_no)",
    ),
    "dropped": (
        ("ALTER TABLE docs_embedding RENAME TO elsewhere",),
        "ALTER TABLE elsewhere RENAME TO docs_embedding",
        "",
    ),
}


@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), ROWS])
@pytest.mark.parametrize("case", AS_A_WHOLE.values(), ids=AS_A_WHOLE)
@pytest.mark.quick_variants(3)
def test_a_target_that_refuses_every_write_stops_the_pipeline_after_one_batch_and_buys_no_more(
    docs: Steps, case: tuple[tuple[str, ...], str, str], count: int
) -> None:
    statements, repair, reason = case
    docs.checks = False
    docs.synced.run("INSERT INTO docs SELECT -i, 'before ' || i FROM generate_series(1, 5) AS i")
    docs.synced.settle()
    paid = docs.synced.paid()
    docs.synced.run(*statements)
    docs.synced.run(f"INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, {count}) AS i")
    docs.process()
    state, why = docs.state()
    assert state == "misconfigured"
    assert str(why).startswith(reason)
    assert docs.synced.dead() == [], "no row is at fault"
    bought = docs.synced.paid() - paid
    assert bought <= count
    for _ in range(docs.runtime.settings.attempts + 2):
        docs.end_backoffs()
        Loop(docs.runtime).turn()
        assert docs.state()[0] == "misconfigured"
    assert docs.synced.paid() - paid == bought, "a probe rehearses its write before it buys"
    docs.synced.run(repair)
    docs.end_backoffs()
    docs.synced.settle()
    assert docs.state() == ("active", None)
    docs.synced.exact()
    # twice at most, and the harmless text of the probe
    assert docs.synced.paid() - paid <= bought + count + 1


def test_a_revoked_grant_stops_the_pipeline(docs: Steps, role: Callable[..., str]) -> None:
    grants = ("GRANT USAGE ON SCHEMA public, pgvector_sync TO {role}", "GRANT SELECT ON docs TO {role}")
    ours = ("GRANT ALL ON ALL TABLES IN SCHEMA pgvector_sync TO {role}", "GRANT ALL ON docs_embedding TO {role}")
    name = role("worker", *grants, *ours)
    docs.insert(_1="one")
    docs.drain()
    docs.synced.run(f"REVOKE INSERT ON docs_embedding FROM {name}")
    with docs.synced.acting_as(name) as runtime:
        Steps(docs.synced, runtime).process()
        assert docs.state()[0] == "misconfigured"
        assert "42501" in str(docs.state()[1])
        docs.synced.run(f"GRANT INSERT ON docs_embedding TO {name}")
        docs.end_backoffs()
        docs.synced.settle(runtime=runtime)
    docs.synced.exact()


@pytest.mark.parametrize(
    ("constraint", "sqlstate"),
    [
        ("ADD CONSTRAINT not_seven CHECK (id <> 7)", 23514),
        ("ADD CONSTRAINT one_each UNIQUE (fingerprint)", 23505),
    ],
)
def test_a_row_that_a_constraint_refuses_is_parked_bought_once_and_the_others_are_written(
    docs: Steps, constraint: str, sqlstate: int
) -> None:
    docs.synced.run(f"ALTER TABLE docs_embedding {constraint}")
    docs.synced.run(f"INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, {ROWS}) AS i")
    docs.synced.run("UPDATE docs SET body = 'text 6' WHERE id = 7")
    for _ in range(docs.runtime.settings.attempts):
        docs.end_backoffs()
        docs.process()
    assert docs.state() == ("active", None)
    [(key, error)] = docs.synced.dead()
    assert (key[0] in (6, 7), error) == (True, "write_failed")
    assert docs.work(key[0], "error_message") == f"the write failed on this row ({sqlstate})"
    assert len(docs.synced.vectors()) == ROWS - 1
    assert docs.synced.paid() == ROWS - 1, "the same text twice is bought once"


def test_single_rows_that_come_one_by_one_show_as_well_that_the_target_refuses_all(docs: Steps) -> None:
    docs.insert(_1="one", _2="two", _3="three", _4="four")
    docs.synced.sync()
    docs.synced.run("ALTER TABLE docs_embedding ADD CONSTRAINT never CHECK (chunk_no > 0) NOT VALID")
    docs.change(1, "changed")
    docs.process()
    assert docs.state()[0] == "misconfigured"


def test_what_the_target_demands_is_named_by_apply_and_refused_where_no_write_can_succeed(docs: Steps) -> None:
    docs.synced.run(
        "ALTER TABLE docs_embedding ADD CONSTRAINT positive CHECK (id > 0)",
        "ALTER TABLE docs_embedding ADD CONSTRAINT source FOREIGN KEY (id) REFERENCES docs ON DELETE CASCADE",
        "ALTER TABLE docs_embedding ADD noted timestamptz NOT NULL DEFAULT now()",
        "CREATE UNIQUE INDEX each_once ON docs_embedding (model, fingerprint)",
    )
    [made] = docs.synced.plan().pipelines
    assert made.idle
    assert {(demand.kind, demand.name) for demand in made.demands} == {
        ("check", "positive"),
        ("foreign key", "source"),
        ("unique", "public.each_once"),
    }
    docs.synced.run(*NOT_NULL)
    with pytest.raises(Refused, match="column tenant_id is NOT NULL without a default") as refused:
        docs.synced.plan()
    assert "ALTER TABLE" in str(refused.value.hint)


def test_a_target_as_we_made_it_demands_nothing(docs: Steps) -> None:
    docs.synced.pipeline("halved", text=["note"], target="halved", vector_type="halfvec")
    with docs.runtime.database.transaction(read_only=True) as connection:
        assert [demands(connection, pipeline) for pipeline in pipelines.all_pipelines(connection)] == [[], []]
