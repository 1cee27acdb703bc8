"""The schema in a file, so that a change shows in review.

PGVECTOR_SYNC_REWRITE_SNAPSHOT=1 pytest tests/store/test_snapshot.py       after a migration was added
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.servers import Database

SNAPSHOT = Path(__file__).with_name("snapshot.txt")
REWRITE = bool(os.environ.get("PGVECTOR_SYNC_REWRITE_SNAPSHOT"))  # read before the fixtures clear the environment
LINES = """
    SELECT format('%%s.%%s %%s%%s%%s', c.table_name, c.column_name,
                  format_type(a.atttypid, a.atttypmod),
                  CASE WHEN c.is_nullable = 'NO' THEN ' not null' ELSE '' END,
                  coalesce(' default ' || c.column_default, CASE c.is_identity WHEN 'YES' THEN ' identity' END, ''))
    FROM information_schema.columns c
    JOIN pg_attribute a ON a.attrelid = format('%%I.%%I', c.table_schema, c.table_name)::regclass
         AND a.attname = c.column_name
    WHERE c.table_schema = 'pgvector_sync'
    UNION ALL
    SELECT format('%%s: %%s', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint
    WHERE connamespace = 'pgvector_sync'::regnamespace AND contype <> 'n'
    UNION ALL
    SELECT indexdef FROM pg_indexes WHERE schemaname = 'pgvector_sync'
    UNION ALL
    SELECT format('%%s with %%s', oid::regclass, array_to_string(reloptions, ', ')) FROM pg_class
    WHERE relnamespace = 'pgvector_sync'::regnamespace AND reloptions IS NOT NULL
"""


def test_the_schema_is_the_one_in_the_snapshot(database: Database):
    lines = sorted(line for (line,) in database.execute(LINES.replace("%%", "%")))
    found = "\n".join(lines) + "\n"
    if REWRITE:
        SNAPSHOT.write_text(found)
    if not SNAPSHOT.exists():
        pytest.fail("there is no snapshot: run with PGVECTOR_SYNC_REWRITE_SNAPSHOT=1")
    assert found == SNAPSHOT.read_text(), "if this is meant: run with PGVECTOR_SYNC_REWRITE_SNAPSHOT=1"
