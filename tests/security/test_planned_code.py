"""Code that Postgres evaluates while it plans the read of a source never runs with a worker's rights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from pgvector_sync.batch.read import read
from pgvector_sync.batch.write import write
from pgvector_sync.errors import DatabaseRefuses, Refused
from pgvector_sync.model.request import Reembed
from pgvector_sync.observe.doctor.tables import _try_to_read
from pgvector_sync.runs.requests import request_reembed
from pgvector_sync.store.pipelines import require_pipeline
from support.attack import HELD, MARK, Attack, documents, grant, owns_schema
from support.steps import Steps
from support.waiting import eventually

PARTITIONED = (
    "CREATE TABLE docs (id bigint PRIMARY KEY, body text, note text) PARTITION BY RANGE (id)",
    "CREATE TABLE docs_1 PARTITION OF docs FOR VALUES FROM (0) TO (1000)",
    "INSERT INTO docs VALUES (1, 'one', 'n')",
)


def partitioned(attack: Attack, **values: object) -> None:
    """Creates a partitioned source of which the attacker owns one partition."""
    attack.synced.run(*PARTITIONED)
    attack.synced.declare(**values)
    attack.synced.apply()
    grant(attack)
    attack.synced.run(
        f"ALTER TABLE docs_1 OWNER TO {attack.attacker}", f"GRANT SELECT ON docs_1 TO {attack.worker}"
    )


def planned(attack: Attack) -> str:
    """The SQL of a function that the planner evaluates if an expression calls it."""
    return attack.function("loot.planned", "n integer", "text", "n::text", "IMMUTABLE")


def test_a_check_of_a_partition_is_not_evaluated_as_the_worker(attack: Attack) -> None:
    partitioned(attack)
    attack.as_attacker(planned(attack), "ALTER TABLE docs_1 ADD CHECK (loot.planned(1) <> body)")
    attack.sync()
    attack.nothing_ran()
    attack.synced.exact()


def test_a_check_is_not_evaluated_as_the_worker_whatever_the_database_has_set(attack: Attack) -> None:
    documents(attack)
    name = attack.synced.database.name
    attack.synced.run(
        f"ALTER TABLE docs OWNER TO {attack.attacker}", f"ALTER DATABASE {name} SET constraint_exclusion = on"
    )
    attack.as_attacker(planned(attack), "ALTER TABLE docs ADD CHECK (loot.planned(1) <> body)")
    attack.sync()
    attack.nothing_ran()
    attack.synced.exact()


@pytest.mark.parametrize(
    "made",
    [
        "CREATE INDEX ON loot.docs_child ((loot.planned(1) || body))",
        "CREATE STATISTICS loot.s ON (loot.planned(1) || body), id FROM loot.docs_child",
        "ALTER TABLE loot.docs_child ADD CHECK (loot.planned(1) <> body)",
    ],
)
def test_a_table_that_inherits_from_a_source_is_not_planned_as_the_worker(attack: Attack, made: str) -> None:
    documents(attack)
    attack.synced.run(f"ALTER TABLE docs OWNER TO {attack.attacker}")
    attack.as_attacker(planned(attack), "CREATE TABLE loot.docs_child () INHERITS (docs)", made)
    attack.sync()
    attack.nothing_ran()


def test_a_column_that_is_added_to_a_row_read_as_a_whole_has_no_cast_called(attack: Attack) -> None:
    documents(attack, text={"sql": "to_jsonb(docs)::text"})
    attack.synced.run(f"ALTER TABLE docs OWNER TO {attack.attacker}")
    attack.as_attacker(
        "CREATE TYPE loot.mood AS ENUM ('n', 'm')",
        "GRANT USAGE ON TYPE loot.mood TO PUBLIC",
        attack.function("loot.as_json", "m loot.mood", "json", "'1'::json"),
        "CREATE CAST (loot.mood AS json) WITH FUNCTION loot.as_json(loot.mood)",
        "ALTER TABLE docs ADD mood loot.mood DEFAULT 'n'",
    )
    attack.sync()
    attack.nothing_ran()
    attack.stopped("of the cast (loot.mood AS json)")


def test_an_index_created_while_the_worker_waits_for_the_table_is_noticed(attack: Attack) -> None:
    partitioned(attack)
    attack.as_attacker(planned(attack))
    attack.synced.settle()
    attack.synced.run("UPDATE docs SET body = 'two'")
    with attack.synced.acting_as(attack.worker) as runtime, attack.synced.database.connect() as holder:
        batch = Steps(attack.synced, runtime).claim()
        holder.execute(f"SET SESSION AUTHORIZATION {attack.attacker}")
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE docs_1 IN ACCESS EXCLUSIVE MODE")
        holder.execute("CREATE INDEX ON docs_1 ((loot.planned(1) || body))")
        holder.execute("SELECT pg_advisory_unlock_all()")
        with ThreadPoolExecutor() as threads:
            reading = threads.submit(read, runtime, batch)
            waits = "SELECT count(*) FROM pg_locks WHERE relation = 'docs_1'::regclass AND NOT granted"
            eventually(lambda: attack.synced.database.value(waits) > 0)
            holder.execute("COMMIT")
            with pytest.raises(DatabaseRefuses, match="in an index or statistics"):
                reading.result()
        attack.holders = attack.synced.database.value(HELD, MARK)
    attack.nothing_ran()


@pytest.mark.parametrize("waits_for", ["a text", "a row of the target"])
def test_a_schema_renamed_during_a_write_gets_none_of_it(attack: Attack, waits_for: str) -> None:
    """The attacker owns the schema of the target, and may create others."""
    owns_schema(attack)
    attack.synced.run(
        f"GRANT CREATE ON DATABASE {attack.synced.database.name} TO {attack.attacker}",
        "CREATE FUNCTION public.slowly(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS "
        "'BEGIN PERFORM pg_catalog.pg_advisory_lock_shared(7), pg_catalog.pg_advisory_unlock_shared(7); RETURN t; END'",
    )
    documents(attack, text={"sql": "public.slowly(body)"}, target="app.docs_embedding")
    attack.synced.settle()
    attack.synced.run("UPDATE docs SET body = 'two'", f"GRANT SELECT ON app.docs_embedding TO {attack.attacker}")
    connect = attack.synced.database.connect
    with attack.synced.acting_as(attack.worker) as runtime, connect() as holder, connect() as owner:
        steps = Steps(attack.synced, runtime, checks=False)
        batch = steps.claim()
        prepared = steps.embed(batch)
        owner.execute("BEGIN")
        owner.execute(f"SET SESSION AUTHORIZATION {attack.attacker}")
        for each in (
            "ALTER SCHEMA app RENAME TO app_before",
            "CREATE SCHEMA app",
            f"GRANT USAGE ON SCHEMA app TO {attack.worker}",
            "CREATE TABLE app.docs_embedding (LIKE app_before.docs_embedding INCLUDING ALL)",
            attack.function("app.on_write", "", "trigger", "null"),
            "CREATE TRIGGER t BEFORE INSERT OR DELETE ON app.docs_embedding EXECUTE FUNCTION app.on_write()",
            f"GRANT ALL ON app.docs_embedding TO {attack.worker}",
        ):
            owner.execute(each)
        holder.execute("BEGIN")
        if waits_for == "a text":
            holder.execute("SELECT pg_advisory_xact_lock(7)")
        else:
            holder.execute("SELECT FROM app.docs_embedding FOR UPDATE")
        with ThreadPoolExecutor() as threads:
            writing = threads.submit(write, runtime, batch, prepared)
            waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            eventually(lambda: attack.synced.database.value(waits) > 0)
            owner.execute("COMMIT")
            holder.execute("COMMIT")
            refused = writing.exception()
        attack.holders = attack.synced.database.value(HELD, MARK)
    if waits_for == "a text" or refused is not None:  # else it has just written to what was the target before
        assert isinstance(refused, DatabaseRefuses)
        assert "belongs to role attacker" in str(refused)
    assert attack.synced.database.value("SELECT count(*) FROM app.docs_embedding") == 0
    attack.nothing_ran()


def test_a_role_that_may_refer_to_a_target_cant_have_code_evaluated_as_the_owner_when_a_key_is_widened(
    attack: Attack,
) -> None:
    attack.synced.run("CREATE TABLE docs (id int PRIMARY KEY, body text)", "INSERT INTO docs VALUES (1, 'one')")
    attack.synced.declare()
    attack.synced.apply()
    attack.synced.settle()
    attack.synced.run(f"GRANT REFERENCES ON docs_embedding TO {attack.attacker}")
    attack.as_attacker(
        planned(attack),
        "CREATE TABLE loot.refers (id int, chunk_no int, body text, FOREIGN KEY (id, chunk_no) REFERENCES docs_embedding)",
        "CREATE INDEX ON loot.refers ((loot.planned(1) || body))",
        "GRANT SELECT ON loot.refers TO PUBLIC",
    )
    attack.synced.run("DROP TRIGGER pgvector_sync_update ON docs", "ALTER TABLE docs ALTER id TYPE bigint")
    with pytest.raises(Refused, match=r"loot\.refers, which belongs to attacker") as refused:
        attack.synced.apply()
    attack.holders = attack.synced.database.value(HELD, MARK)
    attack.nothing_ran()
    attack.synced.run(str(refused.value.hint))
    attack.synced.apply()


def test_doctor_doesnt_evaluate_code_of_the_sources_owner_while_planning(attack: Attack) -> None:
    documents(attack)
    attack.synced.run(f"ALTER TABLE docs OWNER TO {attack.attacker}")
    attack.as_attacker(planned(attack), "CREATE INDEX ON docs ((loot.planned(1) || body))")
    with attack.synced.owner.database.transaction(read_only=True) as connection:
        pipeline = require_pipeline(connection, "docs")
    found = list(_try_to_read(attack.synced.owner, pipeline))
    attack.holders = attack.synced.database.value(HELD, MARK)
    attack.nothing_ran()
    assert "loot.planned(integer), in an index or statistics" in str(found[0])


@pytest.mark.parametrize(
    ("made", "type_"),
    [
        ("CREATE DOMAIN loot.word AS text CHECK (loot.planned(1) <> VALUE)", "loot.word[]"),
        ("CREATE DOMAIN app.word AS loot.word", "app.word"),
        ("CREATE DOMAIN app.word AS text CHECK (loot.planned(1) <> VALUE)", "app.word"),
    ],
)
def test_the_check_of_a_domain_in_a_domain_or_an_array_does_not_run(attack: Attack, made: str, type_: str) -> None:
    """This includes the check of a domain of the owner that calls a function of another role."""
    attack.as_attacker(planned(attack))
    attack.synced.run("CREATE SCHEMA app")
    if "AS loot.word" in made:
        attack.as_attacker("CREATE DOMAIN loot.word AS text CHECK (loot.planned(1) <> VALUE)")
    (attack.as_attacker if "DOMAIN loot" in made else attack.synced.run)(made)
    value = "string_to_array(body, ',')" if type_.endswith("[]") else "body"
    with pytest.raises(Refused, match="attacker"):
        documents(attack, text={"sql": f"({value}::{type_})::text"})
    attack.holders = attack.synced.database.value(HELD, MARK)
    attack.nothing_ran()


def test_a_condition_on_another_column_calls_no_cast_of_its_owners(attack: Attack) -> None:
    documents(attack)
    attack.synced.run(f"ALTER TABLE docs OWNER TO {attack.attacker}")
    attack.as_attacker(
        "CREATE TYPE loot.mood AS ENUM ('n')",
        "GRANT USAGE ON TYPE loot.mood TO PUBLIC",
        "ALTER TABLE docs ADD mood loot.mood DEFAULT 'n'",
    )
    with attack.synced.acting_as(attack.worker) as runtime:
        request_reembed(runtime.database, "docs", Reembed(where="mood::text = 'n'"))
    attack.as_attacker(
        attack.function("loot.as_text", "m loot.mood", "text", "'n'"),
        "CREATE CAST (loot.mood AS text) WITH FUNCTION loot.as_text(loot.mood) AS IMPLICIT",
    )
    attack.sync()
    attack.nothing_ran()
    [(reason,)] = attack.synced.database.execute("SELECT reason FROM pgvector_sync.run WHERE kind = 'reembed'")
    assert "of the cast (loot.mood AS text)" in reason
