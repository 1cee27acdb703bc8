"""A deployment as docs/operations.md describes it: four roles made by `sql/roles.sql`, with passwords, and an administrator
who isn't a superuser, as managed services have it. Every session logs in as its own role.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from support.programs import folder
from support.roles import FILE
from support.servers import Database

KINDS = ("owner", "worker", "application", "monitor")
ARTICLES = "CREATE TABLE articles (id bigint PRIMARY KEY, title text, body text)"
ADMINISTRATOR = "administrator"
_GRANT = re.compile(r"^--   (GRANT .+;)$", re.MULTILINE)


@dataclass
class Deployment:
    """A database whose owner is the administrator, with an empty table `articles` of the administrator."""

    database: Database
    names: dict[str, str]
    """The kind of role ("owner", …, "administrator") → its name."""
    passwords: dict[str, str]
    """The name of a role → its password."""

    def url(self, kind: str, **parameters: Any) -> str:
        name = self.names[kind]
        parts = {"host": "127.0.0.1", "port": self.database.server.port, "dbname": self.database.name}
        return make_conninfo("", **parts | {"user": name, "password": self.passwords[name]} | parameters)

    def connect(self, kind: str) -> psycopg.Connection[Any]:
        """An autocommit session of the role."""
        return psycopg.connect(self.url(kind), autocommit=True)

    def run_file(self, kind: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `sql/roles.sql` with psql as a role."""
        variables = [word for each in KINDS for word in ("-v", f"{each}={self.names[each]}")]
        env = {f"{each.upper()}_PASSWORD": self.passwords[self.names[each]] for each in KINDS}
        psql = folder(self.database.server.version) / "psql"
        command = [psql, "--no-psqlrc", "--quiet", *variables, *arguments, "--file", FILE, self.url(kind)]
        return subprocess.run(
            [str(word) for word in command], env=os.environ | env, capture_output=True, text=True, check=False
        )

    def grant_on_sources(self) -> None:
        """Executes, as the owner of the source, the grants that the comments of `sql/roles.sql` name."""
        statements = _GRANT.findall(FILE.read_text("utf-8"))
        assert len(statements) == 4
        with self.connect(ADMINISTRATOR) as connection:
            for statement in statements:
                connection.execute(re.sub(r"\bsync_(\w+)\b", lambda word: f'"{self.names[word[1]]}"', statement))
            writes = sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON articles TO {}")
            connection.execute(writes.format(sql.Identifier(self.names["application"])))


@contextmanager
def new_deployment(database: Database) -> Iterator[Deployment]:
    """A deployment before the first run of `sql/roles.sql`: only the administrator exists. Its roles are dropped at the end."""
    suffix = database.name.removeprefix("test_")
    names = {kind: f"{kind}-{suffix}" for kind in (*KINDS, ADMINISTRATOR)}  # a name that has to be quoted
    passwords = {name: secrets.token_urlsafe(12) for name in names.values()}
    deployment = Deployment(database, names, passwords)
    admin = sql.Identifier(names[ADMINISTRATOR])
    with database.connect() as connection:
        connection.execute("SET scram_iterations = 1")
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD {}").format(admin, passwords[names[ADMINISTRATOR]])
        )
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(database.name), admin))
        connection.execute(sql.SQL("GRANT pg_read_all_stats TO {} WITH ADMIN OPTION").format(admin))
        connection.execute("CREATE EXTENSION vector")  # the wheels' version isn't a trusted extension
    try:
        with deployment.connect(ADMINISTRATOR) as connection:
            connection.execute(ARTICLES)
        yield deployment
    finally:
        _drop(database, list(names.values()))


def _drop(database: Database, roles: list[str]) -> None:
    with database.connect() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ANY (%s)", (roles,)
        )
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO postgres").format(sql.Identifier(database.name)))
        existing = [
            sql.Identifier(name)
            for (name,) in connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)", (roles,))
        ]
        connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.SQL(", ").join(existing)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.SQL(", ").join(existing)))
