"""docs/guarantees.md counts the deliberate breaks, failpoints and orders as they are, and names statements that exist."""

import re
from pathlib import Path

import pytest

from pgvector_sync.failpoint import Failpoint
from proof.breaks import MUTANTS
from proof.interleavings import PLAYS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/guarantees.md").read_text("utf-8")
TEXT = " ".join(PAGE.split())
STATEMENTS = sorted(set(re.findall(r"`([a-z_]+)\.(?!py`)([a-z_]+)`", PAGE)))


def test_the_deliberate_breaks_are_counted_as_they_are():
    covered = sum(1 for mutant in MUTANTS if mutant.covered_by)
    assert f"in {len(MUTANTS)} ways" in TEXT
    assert f"{len(MUTANTS) - covered} breaks are noticed, and for each of the other {covered}" in TEXT


def test_the_orders_are_counted_as_they_are():
    orders = sum(len(play.orders()) for play in PLAYS)
    assert f"({orders:,} orders in {len(PLAYS)} plays;" in TEXT


def test_the_failpoints_are_counted_as_they_are():
    assert f"a process killed at each of {len(Failpoint)} points" in TEXT


@pytest.mark.parametrize(("file", "name"), STATEMENTS)
def test_a_named_statement_exists(file, name):
    queries = ROOT / "sql/queries" / f"{file}.sql"
    source = (queries if queries.exists() else ROOT / "sql" / f"{file}.sql").read_text("utf-8")
    assert re.search(rf"^-- (name|part): {name}$", source, re.MULTILINE)
