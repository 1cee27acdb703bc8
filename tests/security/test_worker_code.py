"""A worker runs its own statements and code that its owner trusts, but no function of a role that can merely create one."""

from __future__ import annotations

import pytest

from pgvector_sync.errors import Refused
from pgvector_sync.store import trust
from pgvector_sync.store.pipelines import require_pipeline
from support.attack import HELD, MARK, Attack, documents, grant, owns_schema
from support.synced import TEXT_LIMIT


def test_the_trap_shows_whose_rights_the_attackers_code_has(attack: Attack) -> None:
    """Shows that `nothing_ran` can fail."""
    documents(attack)
    attack.as_attacker(
        attack.function("loot.trap", "", "int", "1"),
        f"GRANT EXECUTE ON FUNCTION loot.trap() TO {attack.worker}",
    )
    with attack.synced.acting_as(attack.worker) as runtime, runtime.database.transaction() as connection:
        connection.execute("SELECT loot.trap()")
        assert attack.synced.database.value(HELD, MARK) == 1
    assert attack.synced.database.execute("SELECT who FROM loot.ran") == [(attack.worker,)]
    with pytest.raises(AssertionError):
        attack.nothing_ran()


def test_a_better_fitting_convert_to_in_public_does_not_run_as_the_worker(attack: Attack) -> None:
    documents(attack)
    attack.as_attacker(attack.function("public.convert_to", "a text, b text", "bytea", "'\\x00'::bytea"))
    attack.sync()
    attack.nothing_ran()
    attack.synced.exact()


def test_an_operator_in_public_does_not_run_as_the_worker(attack: Attack) -> None:
    documents(attack)
    attack.synced.run(f"UPDATE docs SET body = repeat('x', {TEXT_LIMIT + 1})")
    attack.as_attacker(
        attack.function("public.join_them", "a text, b integer", "text", "'joined'"),
        "CREATE OPERATOR public.|| (FUNCTION = public.join_them, LEFTARG = text, RIGHTARG = integer)",
    )
    attack.sync()
    attack.nothing_ran()
    assert attack.synced.dead() == [([1], "too_large")]


def test_apply_refuses_a_function_of_another_owner_and_says_what_to_do(attack: Attack) -> None:
    attack.as_attacker(attack.function("public.shout", "t text", "text", "upper(t)", "IMMUTABLE"))
    with pytest.raises(Refused, match=r"public\.shout\(text\) belongs to role attacker") as refused:
        documents(attack, text={"sql": "public.shout(body)"})
    assert "ALTER FUNCTION public.shout(text) OWNER TO" in str(refused.value.hint)
    assert attack.synced.database.execute("SELECT who FROM loot.ran") == []


def test_a_function_that_another_role_recreates_does_not_run_as_the_worker(attack: Attack) -> None:
    owns_schema(attack)
    attack.synced.run("CREATE FUNCTION app.shout(t text) RETURNS text LANGUAGE sql IMMUTABLE RETURN upper(t)")
    documents(attack, text={"sql": "app.shout(body)"})
    attack.as_attacker(
        "DROP FUNCTION app.shout", attack.function("app.shout", "t text", "text", "upper(t)", "IMMUTABLE")
    )
    attack.sync()
    attack.nothing_ran()
    attack.stopped("the function app.shout(text) belongs to role attacker")


def test_an_overload_that_fits_better_does_not_run_as_the_worker(attack: Attack) -> None:
    attack.synced.run(
        "CREATE FUNCTION public.shout(t text, n integer DEFAULT 1) RETURNS text LANGUAGE sql IMMUTABLE RETURN upper(t)"
    )
    documents(attack, text={"sql": "public.shout(body)"})
    attack.as_attacker(attack.function("public.shout", "t text", "text", "upper(t)", "IMMUTABLE"))
    attack.sync()
    attack.nothing_ran()
    attack.stopped("the function public.shout(text) belongs to role attacker")


def test_a_column_retyped_to_a_type_with_a_cast_of_its_owners_does_not_run_as_the_worker(attack: Attack) -> None:
    documents(attack, text={"sql": "body || note::name::text"})
    attack.synced.run(f"ALTER TABLE docs OWNER TO {attack.attacker}")
    attack.as_attacker(
        "CREATE TYPE loot.mood AS ENUM ('n', 'm')",
        attack.function("loot.as_name", "m loot.mood", "name", "'as name'"),
        "CREATE CAST (loot.mood AS name) WITH FUNCTION loot.as_name(loot.mood)",
        "DROP TRIGGER pgvector_sync_update ON docs",
        "ALTER TABLE docs ALTER note TYPE loot.mood USING note::loot.mood",
    )
    attack.sync()
    attack.nothing_ran()
    attack.stopped("of the cast (loot.mood AS name)")


def test_an_enum_of_another_owner_is_read_until_it_has_a_cast(attack: Attack) -> None:
    attack.as_attacker("CREATE TYPE loot.mood AS ENUM ('n', 'm')", "GRANT USAGE ON TYPE loot.mood TO PUBLIC")
    attack.synced.run(
        "CREATE TABLE docs (id bigint PRIMARY KEY, body text, note loot.mood)",
        "INSERT INTO docs VALUES (1, 'one', 'n')",
    )
    attack.synced.declare(text=["body", "note"])
    attack.synced.apply()
    grant(attack)
    attack.sync()
    attack.synced.exact()
    attack.as_attacker(
        attack.function("loot.as_text", "m loot.mood", "text", "'as text'"),
        "CREATE CAST (loot.mood AS text) WITH FUNCTION loot.as_text(loot.mood) AS IMPLICIT",
    )
    attack.synced.run("UPDATE docs SET body = 'two'")
    attack.sync()
    attack.nothing_ran()
    attack.stopped("of the cast (loot.mood AS text)")


def test_a_source_swapped_for_a_view_does_not_run_its_function(attack: Attack) -> None:
    documents(attack)
    attack.synced.run(f"ALTER TABLE docs OWNER TO {attack.attacker}")
    attack.as_attacker(
        "ALTER TABLE docs RENAME TO docs_before",
        attack.function("loot.body", "t text", "text", "t"),
        "CREATE VIEW public.docs AS SELECT id, loot.body(body) AS body, note FROM docs_before",
        f"GRANT SELECT ON docs TO {attack.worker}",
        f"GRANT SELECT ON docs_before TO {attack.worker}",
    )
    attack.sync()
    attack.nothing_ran()
    attack.stopped("a view")


@pytest.mark.parametrize(
    "made",
    [
        "CREATE INDEX ON docs ((loot.planned(1) || body))",
        "CREATE INDEX ON docs (id) WHERE loot.planned(1) = body",
        "CREATE STATISTICS loot.s ON (loot.planned(1) || body), id FROM docs",
    ],
)
def test_what_the_planner_evaluates_does_not_run_as_the_worker(attack: Attack, made: str) -> None:
    documents(attack)
    attack.synced.run(f"ALTER TABLE docs OWNER TO {attack.attacker}")
    attack.as_attacker(attack.function("loot.planned", "n integer", "text", "n::text", "IMMUTABLE"), made)
    attack.sync()
    attack.nothing_ran()
    attack.stopped("the function loot.planned(integer), in an index or statistics")


def test_a_recreated_target_with_a_trigger_gets_no_write_and_nothing_is_bought(attack: Attack) -> None:
    owns_schema(attack)
    attack.synced.run(
        "CREATE TABLE app.docs (id bigint PRIMARY KEY, body text)", "INSERT INTO app.docs VALUES (1, 'one')"
    )
    attack.synced.declare(source="app.docs")
    attack.synced.apply()
    attack.synced.run(f"GRANT SELECT ON app.docs, app.docs_embedding TO {attack.worker}, {attack.attacker}")
    paid = attack.synced.paid()
    attack.as_attacker(
        "CREATE TABLE app.remade (LIKE app.docs_embedding INCLUDING ALL)",
        "DROP TABLE app.docs_embedding",
        "ALTER TABLE app.remade RENAME TO docs_embedding",
        attack.function("app.on_write", "", "trigger", "new"),
        "CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON app.docs_embedding FOR EACH ROW EXECUTE FUNCTION app.on_write()",
        f"GRANT ALL ON app.docs_embedding TO {attack.worker}",
    )
    attack.sync()
    attack.nothing_ran()
    assert attack.synced.paid() == paid
    attack.stopped("app.docs_embedding belongs to")


def test_a_sweep_doesnt_write_to_a_recreated_target(attack: Attack) -> None:
    owns_schema(attack)
    attack.synced.run(
        "CREATE TABLE app.docs (id bigint PRIMARY KEY, body text)", "INSERT INTO app.docs VALUES (1, 'one')"
    )
    attack.synced.declare(source="app.docs")
    attack.synced.apply()
    attack.synced.settle()
    attack.synced.run(f"GRANT SELECT ON app.docs, app.docs_embedding TO {attack.worker}, {attack.attacker}")
    attack.as_attacker(
        "CREATE TABLE app.remade (LIKE app.docs_embedding INCLUDING ALL)",
        "INSERT INTO app.remade SELECT * FROM app.docs_embedding",
        "DROP TABLE app.docs_embedding",
        "ALTER TABLE app.remade RENAME TO docs_embedding",
        attack.function("app.on_write", "", "trigger", "old"),
        "CREATE TRIGGER t BEFORE DELETE ON app.docs_embedding FOR EACH ROW EXECUTE FUNCTION app.on_write()",
        f"GRANT ALL ON app.docs_embedding TO {attack.worker}",
    )
    attack.synced.run("TRUNCATE app.docs")
    attack.sync()
    attack.nothing_ran()


def test_a_source_can_be_locked_again_after_a_cancel_between_the_statements_of_the_lock(attack: Attack) -> None:
    documents(attack)
    with attack.synced.runtime.database.transaction() as connection:
        pipeline = require_pipeline(connection, "docs")
        for _ in range(2):
            connection.execute(trust.lock(pipeline.source).as_string(connection).partition(";")[0])
            trust.require_trusted(connection, pipeline)
