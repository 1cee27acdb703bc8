"""The canonical form of keys, which the triggers write."""

from __future__ import annotations

import pytest

from pgvector_sync.model import KeyColumn
from pgvector_sync.store.canonical import is_usable
from support.steps import Steps


@pytest.mark.parametrize(
    ("kind", "usable", "unusable"),
    [
        ("smallint", [-32768, 32767], [32768, "1", 1.0]),
        ("bigint", [0, 2**63 - 1], [2**63, "0"]),
        ("text", ["", "1", "\x1b", "true"], [1]),
        ("uuid", ["0ae1b7c4-0000-4000-8000-00000000000f"], ["x", "{0ae1b7c4-0000-4000-8000-00000000000f}", 7]),
        ("numeric", ["1.5", "NaN", "-Infinity", "0"], ["1.50", "sNaN", "NaN1", "1e999999999", "1_0", "x", 1]),
        ("boolean", ["true", "false"], ["t", 1, "x"]),
        (
            "date",
            ["2024-02-29", "infinity", "12345-01-01", "4714-11-24 BC", "5874897-12-31"],
            [
                "2023-02-29",
                "99999-99-99",
                "5874898-01-01",
                "4714-11-23 BC",
                "0000-01-01",
                "2024-W09-4",
                "20240229",
            ],
        ),
        (
            "timestamp without time zone",
            ["2024-02-29T12:30:45.5", "294276-12-31T23:59:59.999999"],
            ["294277-01-01T00:00:00", "12345-01-01T25:00:00", "2024-02-29T12:30:45Z", "12345-02-30T00:00:00"],
        ),
        (
            "timestamp with time zone",
            ["2024-02-29T12:30:45Z", "0044-03-15T01:02:03.4Z BC"],
            [
                "2024-02-29T12:30:45",
                "12345-01-01T00:00:00",
                "0044-02-30T00:00:00Z BC",
                "9999-12-31T23:59:59+14:00",
            ],
        ),
    ],
)
def test_only_what_a_trigger_writes_is_a_key(
    docs: Steps, kind: str, usable: list[int | str], unusable: list[int | str]
) -> None:
    """Postgres agrees: it can cast every usable key."""
    columns = [KeyColumn("id", kind)]
    for part in usable:
        assert is_usable((part,), columns), part
        docs.synced.database.execute(f"SELECT (jsonb_build_array(%s::text) ->> 0)::{kind}::text", str(part))
    for part in unusable:
        assert not is_usable((part,), columns), part  # type: ignore[arg-type]
