"""Keys that no row of a source can have, as others may write them into our tables."""

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
"""Shapes that are no key of any source with one column. As JSON numbers, 1e30 and the like are beyond every integer."""
UNUSABLE = ('["1"]', '["x"]', f"[{2**63}]", "[-9999999999999999999]", '["\\u202e\\u001b[31m"]')
"""Keys, but none of a bigint."""
