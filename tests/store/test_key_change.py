"""Which changes of key columns keep the stored keys."""

from __future__ import annotations

import pytest

from pgvector_sync.model import KeyColumn
from pgvector_sync.store.key_change import key_changes, widens


@pytest.mark.parametrize(
    ("before", "after", "wider"),
    [
        ("integer", "bigint", True),
        ("bigint", "integer", False),
        ("character varying(5)", "character varying(6)", True),
        ("character varying(5)", "character varying", True),
        ("character varying(5)", "text", True),
        ("character varying", "text", True),
        ("text", "character varying", False),
        ("character varying(6)", "character varying(5)", False),
        ("numeric(6,2)", "numeric(7,3)", True),
        ("numeric(6,2)", "numeric(6,3)", False),
        ("numeric(6)", "numeric(7,1)", True),
        ("numeric", "numeric(30,2)", False),
        ("date", "timestamp without time zone", False),
        ("uuid", "text", False),
    ],
)
def test_a_type_is_wider_where_every_value_keeps_its_form_and_order(before: str, after: str, wider: bool):
    assert widens(before, after) is wider


def test_columns_belong_together_by_their_place():
    a, b = KeyColumn("a", "integer"), KeyColumn("b", "integer")
    assert key_changes([a, b], [b, a]) is None
    assert key_changes([a, b], [a, KeyColumn("c", "bigint")]) is not None
    assert key_changes([a], [a, b]) is None
    assert key_changes([a], [a]) == ()
