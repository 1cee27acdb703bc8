"""An attacker who tries to use the rights of a worker."""

from __future__ import annotations

from dataclasses import dataclass

from pgvector_sync.engine.loop import Loop
from pgvector_sync.engine.watch import look_now
from pgvector_sync.runtime import Runtime
from support.roles import OWNER, WORKER
from support.synced import Synced

WORKERS = (
    "GRANT USAGE ON SCHEMA pgvector_sync TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA pgvector_sync TO {role}",
    "GRANT USAGE ON ALL SEQUENCES IN SCHEMA pgvector_sync TO {role}",
)
"""The documented grants of a worker's role, without those on source and target."""
MARK = 666
"""The attacker's function takes this advisory lock: a read-only transaction allows it, and a rollback doesn't release it."""

HELD = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s"


@dataclass
class Attack:
    """An attacker who owns a schema, an application's table, and a worker with only its documented grants."""

    synced: Synced
    attacker: str
    worker: str
    holders: int = 0

    def as_attacker(self, *statements: str) -> None:
        """Runs each statement in its own transaction, with only the attacker's rights."""
        with self.synced.database.connect() as connection:
            connection.execute(f"SET SESSION AUTHORIZATION {self.attacker}")
            for statement in statements:
                connection.execute(statement)

    def function(self, name: str, arguments: str, result: str, value: str, more: str = "") -> str:
        """The SQL of a function of the attacker that records the role that runs it, and returns `value`."""
        return f"""CREATE OR REPLACE FUNCTION {name}({arguments}) RETURNS {result} LANGUAGE plpgsql {more} AS $f$
        BEGIN
            PERFORM pg_catalog.pg_advisory_lock_shared({MARK});
            BEGIN
                INSERT INTO loot.ran (who) VALUES (current_user);
            EXCEPTION WHEN OTHERS THEN NULL;
            END;
            RETURN {value};
        END $f$"""

    def sync(self) -> None:
        """Runs a worker, with the worker's own rights, until nothing changes any more."""
        with self.synced.acting_as(self.worker) as runtime:
            self._turns(runtime)
            self.holders = self.synced.database.value(HELD, MARK)

    def _turns(self, runtime: Runtime) -> None:
        loop = Loop(runtime)
        for _ in range(12):
            loop.turn()

    def stopped(self, words: str) -> None:
        """Asserts that the schema watch stops the pipeline, with these words in its reason."""
        look_now(self.synced.runtime.database)
        [(reason, problem)] = self.synced.database.execute("SELECT reason, problem FROM pgvector_sync.pipeline")
        assert words.replace("attacker", self.attacker) in f"{reason} {problem}"

    def nothing_ran(self) -> None:
        assert self.holders == 0
        who = self.synced.database.execute("SELECT who FROM loot.ran")
        assert [role for (role,) in who if role != self.attacker] == []


def documents(attack: Attack, **values: object) -> None:
    """Creates a source owned by the superuser, its target, and the worker's grants on both."""
    synced = attack.synced
    synced.run(
        "CREATE TABLE docs (id bigint PRIMARY KEY, body text, note text)",
        "INSERT INTO docs VALUES (1, 'one', 'n')",
    )
    synced.declare(**values)
    synced.apply()
    grant(attack, str(values.get("target", "docs_embedding")))


def grant(attack: Attack, target: str = "docs_embedding") -> None:
    attack.synced.run(
        f"GRANT SELECT ON docs TO {attack.worker}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {target} TO {attack.worker}",
    )


def owns_schema(attack: Attack) -> None:
    """Makes the attacker the owner of the schema of a superuser's table and its target, so the attacker may drop both."""
    attack.synced.run(
        f"CREATE SCHEMA app AUTHORIZATION {attack.attacker}",
        f"GRANT USAGE ON SCHEMA app TO {attack.worker}, {WORKER}",
        f"GRANT USAGE, CREATE ON SCHEMA app TO {OWNER}",
    )
