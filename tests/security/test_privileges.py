"""The privileges of each role on each of our objects are those that docs/security.md shows.

PGVECTOR_SYNC_REWRITE_SNAPSHOT=1 pytest tests/security/test_privileges.py       after a change of the schema or of grants
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from support.roles import APPLICATION, MONITOR, OWNER, WORKER, set_up_roles
from support.synced import DOCS, Synced

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
REWRITE = bool(os.environ.get("PGVECTOR_SYNC_REWRITE_SNAPSHOT"))  # read before the fixtures clear the environment
HEAD = "| objects | owner | worker | application | monitor |\n|---|---|---|---|---|\n"
TABLE = re.compile(re.escape(HEAD) + r"(\|.*\n)+")
OBJECTS = """
WITH ours AS (SELECT oid FROM pg_namespace WHERE nspname = 'pgvector_sync')
SELECT 1 AS place, 'database' AS kind, datname::text AS name, oid, datdba::regrole::text AS owner FROM pg_database
WHERE datname = current_database()
UNION ALL SELECT 2, 'schema', nspname, oid, nspowner::regrole::text FROM pg_namespace WHERE oid IN (TABLE ours)
UNION ALL SELECT 3, 'table', relname, oid, relowner::regrole::text FROM pg_class
WHERE relnamespace IN (TABLE ours) AND relkind IN ('r', 'p', 'v', 'm', 'f')
UNION ALL SELECT 4, 'sequence', relname, oid, relowner::regrole::text FROM pg_class
WHERE relnamespace IN (TABLE ours) AND relkind = 'S'
UNION ALL SELECT 5, 'function', proname, oid, proowner::regrole::text FROM pg_proc WHERE pronamespace IN (TABLE ours)
UNION ALL SELECT 6, 'table', relname, oid, relowner::regrole::text FROM pg_class
WHERE oid IN ('docs'::regclass, 'docs_embedding'::regclass)
ORDER BY 1, 3
"""
PRIVILEGES = {
    "database": ("CONNECT", "CREATE", "TEMPORARY"),
    "schema": ("USAGE", "CREATE"),
    "table": ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"),
    "sequence": ("USAGE", "SELECT", "UPDATE"),
    "function": ("EXECUTE",),
}
ON_COLUMNS = ("SELECT", "INSERT", "UPDATE", "REFERENCES")
COLUMNS = """
SELECT attname FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped
AND has_column_privilege(%s, attrelid, attnum, %s) ORDER BY attnum
"""


@pytest.fixture
def installed(synced: Synced) -> Synced:
    """A pipeline that was applied, and roles whose grants were made before and after it."""
    synced.run(DOCS)
    synced.pipeline()
    set_up_roles(synced.database)
    return synced


def test_the_privileges_of_each_role_are_those_that_the_docs_show(installed: Synced):
    page = PAGE.read_text("utf-8")
    table = HEAD + "".join(_lines(installed))
    if REWRITE:
        PAGE.write_text(TABLE.sub(lambda _: table, page), "utf-8")
        page = PAGE.read_text("utf-8")
    found = TABLE.search(page)
    assert found is not None
    assert found[0] == table, (
        "if this is meant: run with PGVECTOR_SYNC_REWRITE_SNAPSHOT=1, and read the difference"
    )


def _lines(installed: Synced) -> list[str]:
    """One line per group of objects of a kind on which all roles have the same privileges."""
    rows: dict[tuple[int, str, tuple[str, ...]], set[str]] = {}
    for place, kind, name, oid, owner in installed.database.execute(OBJECTS):
        cells = tuple(
            "owner" if role == owner else _privileges(installed, role, kind, oid)
            for role in (OWNER, WORKER, APPLICATION, MONITOR)
        )
        rows.setdefault((place, kind, cells), set()).add(_label(installed, kind, name))
    ordered = sorted(rows.items(), key=lambda row: (row[0][0], sorted(row[1])))
    return [
        f"| {kind}{'s' * (len(names) > 1)} {', '.join(sorted(names))} | {' | '.join(cells)} |\n"
        for (_, kind, cells), names in ordered
    ]


def _label(installed: Synced, kind: str, name: str) -> str:
    if kind == "database":
        return ""
    named = {"docs": "(a source)", "docs_embedding": "(a target)"}
    return named.get(name) or f"`{re.sub(r'_[0-9]+$', '_N', name)}`"


def _privileges(installed: Synced, role: str, kind: str, oid: int) -> str:
    """The effective privileges, which include those of PUBLIC and of roles that it belongs to."""
    held = []
    with installed.database.connect() as connection:
        wanted = PRIVILEGES[kind]
        if kind == "table" and connection.info.server_version >= 170_000:
            wanted += ("MAINTAIN",)
        for privilege in wanted:
            asked = f"SELECT has_{'table' if kind == 'table' else kind}_privilege(%s, %s::oid, %s)"
            if connection.execute(asked, (role, oid, privilege)).fetchall() == [(True,)]:
                held.append(privilege)
            elif kind == "table" and privilege in ON_COLUMNS:
                columns = [name for (name,) in connection.execute(COLUMNS, (oid, role, privilege))]
                held += [f"{privilege} ({', '.join(columns)})"] if columns else []
    return ", ".join(held) or "none"
