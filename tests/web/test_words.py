"""How the status page words numbers and finds commands."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pgvector_sync.errors import ProviderError
from pgvector_sync.observe.status import START_A_WORKER
from pgvector_sync.web.pages import words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (0.42, "0.4 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (3_599, "1 h"),
        (3_700, "1 h 2 min"),
        (86_399, "1 d"),
        (100_000, "1 d 3 h"),
        (-3, "0.0 s"),
        (90 * 86_400, "90 d"),
    ],
)
def test_durations(seconds, text):
    assert words.duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("usd", "text"), [(None, words.NOTHING), (0, "$0"), (0.004, "< $0.01"), (0.126, "$0.13"), (1234, "$1,234.00")]
)
def test_costs(usd, text):
    assert words.money(usd) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (999, "999"), (12_345, "12.3k"), (999_999, "1M"), (4.25e9, "4.25G")]
)
def test_short_numbers(count, text):
    assert words.short(count) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0 %"), (1, "100 %"), (0.999999, "99.9 %"), (1e-9, "0.1 %"), (0.5, "50 %")]
)
def test_a_share_is_whole_only_if_it_is(share, text):
    assert words.percent(share) == text


@pytest.mark.parametrize(
    ("count", "text"), [(None, "unknown"), (8192, "8.0 kB"), (900, "900 bytes"), (3 << 40, "3.0 TB")]
)
def test_sizes(count, text):
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("advice", "commands"),
    [
        (START_A_WORKER, ["pgvector-sync worker", "pgvector-sync sync"]),
        ("fix this, then: pgvector-sync resume docs", ["pgvector-sync resume docs"]),
        (
            "pgvector-sync dead-letters list docs; a row is retried automatically once it changes",
            ["pgvector-sync dead-letters list docs"],
        ),
        (
            "pgvector-sync runs show 7 shows whether it was repaired; check again: pgvector-sync reconcile docs --dry-run",
            ["pgvector-sync runs show 7", "pgvector-sync reconcile docs --dry-run"],
        ),
        ("see `pgvector-sync doctor`", ["pgvector-sync doctor"]),
        ('REINDEX INDEX CONCURRENTLY "public"."a b";', ['REINDEX INDEX CONCURRENTLY "public"."a b";']),
        ("check that `pgvector-sync beat` and a worker are running", ["pgvector-sync beat"]),
        (ProviderError.advice, ["pgvector-sync apply"]),
        ("shorten the text", []),
    ],
)
def test_commands_are_found_in_advice(advice, commands):
    parts = list(words.commands(advice))
    assert [text for is_command, text in parts if is_command] == commands
    assert "".join(text for _, text in parts) == advice.replace("`", "")
