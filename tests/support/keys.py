"""Keys that no row of a source can have, but that another role could write into our tables."""

from __future__ import annotations

MALFORMED = (
    "[[1, 2]]",
    '[{"a": 1}]',
    "[null]",
    "[true]",
    "[]",
    "[1, 2]",
    "[1.5]",
    "[1.0]",
    "[1e30]",
    f"[{'9' * 40}]",
    "5",
    '"5"',
    "true",
    "null",
    "{}",
    '{"id": 1}',
    "[" * 1_200 + "]" * 1_200,
)
"""JSON that isn't a key of any source with one key column. Numbers such as 1e30 exceed every integer type."""
UNUSABLE = ('["1"]', '["x"]', f"[{2**63}]", "[-9999999999999999999]", '["\\u202e\\u001b[31m"]')
"""Valid keys, but not of a bigint column."""
