"""The search_path and other settings of a database decide what a user's expressions mean, but not what our SQL means."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pgvector_sync.store.migrations import migrate
from support.attack import Attack, documents
from support.roles import OWNER, WORKER
from support.synced import DOCS


@pytest.fixture
def hostile(attack: Attack) -> Iterator[Attack]:
    """An attacker who owns the database, and has put the attacker's schema first in its search_path."""
    attack.synced.run(
        f"ALTER DATABASE {attack.synced.database.name} OWNER TO {attack.attacker}",
        f"GRANT USAGE ON SCHEMA loot TO {OWNER}",
    )
    attack.as_attacker(
        f"ALTER DATABASE {attack.synced.database.name} SET search_path = loot, pg_catalog, public",
        # functions and operators that our statements use, which call the originals
        attack.function("loot.set_config", "a text, b text, c boolean", "text", "pg_catalog.set_config(a, b, c)"),
        attack.function("loot.same", "a oid, b oid", "boolean", "a OPERATOR(pg_catalog.=) b"),
        "CREATE OPERATOR loot.= (FUNCTION = loot.same, LEFTARG = oid, RIGHTARG = oid)",
        attack.function("loot.same", "a name, b name", "boolean", "a OPERATOR(pg_catalog.=) b"),
        "CREATE OPERATOR loot.= (FUNCTION = loot.same, LEFTARG = name, RIGHTARG = name)",
        attack.function("loot.same", "a name, b text", "boolean", "a OPERATOR(pg_catalog.=) b"),
        "CREATE OPERATOR loot.= (FUNCTION = loot.same, LEFTARG = name, RIGHTARG = text)",
        attack.function("loot.replace", "a text, b text, c text", "text", "pg_catalog.replace(a, b, c)"),
    )
    yield attack
    attack.synced.run(
        f"ALTER DATABASE {attack.synced.database.name} OWNER TO CURRENT_USER",
        f"ALTER DATABASE {attack.synced.database.name} RESET search_path",
    )


def nothing_ran(attack: Attack) -> None:
    """Asserts that no code ran, neither as the worker nor as the role that applies."""
    who = attack.synced.database.execute("SELECT who FROM loot.ran")
    assert [role for (role,) in who if role != attack.attacker] == []


def test_a_role_that_may_create_in_public_cant_run_code_as_the_role_that_applies(attack: Attack) -> None:
    attack.as_attacker(
        attack.function("public.same", "a oid, b regclass", "boolean", "a OPERATOR(pg_catalog.=) b"),
        "CREATE OPERATOR public.= (FUNCTION = public.same, LEFTARG = oid, RIGHTARG = regclass)",
    )
    documents(attack)
    attack.sync()
    attack.nothing_ran()
    nothing_ran(attack)


def test_the_owner_of_the_database_cant_run_code_through_its_search_path(hostile: Attack) -> None:
    synced = hostile.synced
    with synced.acting_as(OWNER) as owner:
        synced.run("SET search_path = public; " + DOCS, "INSERT INTO public.docs VALUES (1, 'one', 'n')")
        synced.declare(source="public.docs")
        synced.apply(owner)
    synced.run(
        f"GRANT SELECT ON public.docs TO {hostile.worker}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON public.docs_embedding TO {hostile.worker}",
    )
    hostile.sync()
    hostile.nothing_ran()
    nothing_ran(hostile)
    assert migrate(synced.database.url_as(OWNER)) == []
    nothing_ran(hostile)


def test_a_function_body_is_not_tried_if_its_names_could_resolve_to_objects_of_others(attack: Attack) -> None:
    attack.as_attacker(
        attack.function("public.join_them", "a text, b integer", "text", "'joined'"),
        "CREATE OPERATOR public.|| (FUNCTION = public.join_them, LEFTARG = text, RIGHTARG = integer)",
    )
    attack.synced.run(
        "CREATE FUNCTION public.numbered(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN t || 1; END'"
    )
    documents(attack, text={"sql": "public.numbered(body)"})
    attack.sync()
    attack.nothing_ran()
    nothing_ran(attack)


def test_no_setting_changes_which_texts_count_as_blank(attack: Attack) -> None:
    documents(attack)
    name = attack.synced.database.name
    attack.synced.run(f"ALTER DATABASE {name} SET standard_conforming_strings = off")
    attack.sync()
    with attack.synced.acting_as(attack.worker) as runtime:
        attack.synced.settle(runtime=runtime)
    attack.synced.exact()


SETTINGS = {
    "standard_conforming_strings": "off",
    "backslash_quote": "off",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
    "constraint_exclusion": "on",
    "gin_fuzzy_search_limit": "1",
    "DateStyle": "'SQL, DMY'",
    "IntervalStyle": "sql_standard",
    "TimeZone": "'Asia/Kolkata'",
    "bytea_output": "escape",
    "extra_float_digits": "'-15'",
    "xmloption": "document",
    "plpgsql.extra_errors": "'all'",
    "plan_cache_mode": "force_generic_plan",
    "check_function_bodies": "off",
    "row_security": "off",
    "default_transaction_isolation": "serializable",
}


def test_no_setting_of_the_databases_owner_loses_a_change_or_fails_a_statement(attack: Attack) -> None:
    synced = attack.synced
    synced.run(
        "CREATE TABLE docs (id timestamptz, part numeric, body text, PRIMARY KEY (id, part))",
        "INSERT INTO docs SELECT now() + n * interval '1 s', n / 2.0, 'row ' || n FROM generate_series(1, 5) AS n",
    )
    synced.declare(text={"sql": r"regexp_replace(body, '\s+', ' ')"}, where=r"body ~ '\w'")
    synced.run(
        *(f"ALTER DATABASE {synced.database.name} SET {name} = {value}" for name, value in SETTINGS.items())
    )
    with synced.acting_as(OWNER) as owner, synced.acting_as(WORKER) as worker:
        synced.apply(owner)
        synced.settle(runtime=worker)
        assert len(synced.vectors()) == 5
        synced.run(
            "UPDATE docs SET body = 'other', part = part + 1 WHERE part < 1.5",
            "DELETE FROM docs WHERE part > 2",
            "INSERT INTO docs VALUES (now() - interval '1 d', 1, 'new')",
        )
        synced.settle(runtime=worker)
        assert synced.plan(owner).empty
    synced.run(f"ALTER DATABASE {synced.database.name} RESET ALL")
    synced.exact()
