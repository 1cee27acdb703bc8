"""Every version of pgvector is told its own bugs, and what ends them."""

from __future__ import annotations

import pytest

from pgvector_sync.index.known_bugs import BUGS, HNSW, IVFFLAT, NEWEST_KNOWN, known_bugs, newest_of, parse, upgrade


def cves(version: str, **how: int) -> set[str | None]:
    return {bug.cve for bug in known_bugs(version, **how)} - {None}


@pytest.mark.parametrize(
    ("version", "expected"),
    [("0.5.1", set()), ("0.6.0", {"CVE-2026-3172"}), ("0.8.0", {"CVE-2026-3172"}), ("0.8.1", {"CVE-2026-3172"})]
    + [(version, set()) for version in ("0.8.2", "0.8.6", "0.9.0", "1.0")],
)
def test_parallel_builds_are_dangerous_from_0_6_0_to_0_8_1(version: str, expected: set[str]) -> None:
    assert cves(version) == expected


def test_only_a_32_bit_server_overflows_in_an_ivfflat_build() -> None:
    assert cves("0.8.5", bits=32) == {"CVE-2026-18022"}
    assert cves("0.8.5", bits=64) == cves("0.8.6", bits=32) == set()


@pytest.mark.parametrize(("version", "corrupts"), [("0.7.0", True), ("0.8.2", True), ("0.8.3", False)])
def test_vacuum_can_corrupt_an_hnsw_index_before_0_8_3_and_an_upgrade_alone_does_not_repair_it(
    version: str, corrupts: bool
) -> None:
    bugs = known_bugs(version)
    assert any(bug.corrupts for bug in bugs) == corrupts
    assert ("REINDEX" in upgrade(bugs)) == corrupts
    assert ('REINDEX INDEX CONCURRENTLY "a"."b";' in upgrade(bugs, reindex=['"a"."b"'])) == corrupts


def test_vacuum_and_inserts_can_fail_in_0_8_3() -> None:
    assert [bug.fixed_in for bug in known_bugs("0.8.3")] == ["0.8.4", "0.8.4"]
    assert "pgvector 0.8.4 or later" in upgrade(known_bugs("0.8.3"))


def test_an_ivfflat_build_on_a_small_table_fails_only_in_0_8_4() -> None:
    assert [bug.method for bug in known_bugs("0.8.4")] == [IVFFLAT]
    assert known_bugs("0.8.3", methods=[IVFFLAT]) == known_bugs("0.8.5", methods=[IVFFLAT]) == []


def test_bugs_of_a_method_that_is_not_used_are_left_out() -> None:
    assert {bug.method for bug in known_bugs("0.8.0", methods=[HNSW])} == {HNSW}
    assert known_bugs("0.8.0", methods=[]) == []


def test_versions_are_compared_as_numbers() -> None:
    assert newest_of("0.8.2", "0.8.10", "0.7") == "0.8.10"
    assert parse("0.8") == parse("0.8.0") < parse("0.8.1")


def test_the_newest_known_version_has_no_bug_in_the_table() -> None:
    assert all(parse(bug.since) < parse(bug.fixed_in) <= parse(NEWEST_KNOWN) for bug in BUGS)
    assert known_bugs(NEWEST_KNOWN, bits=32) == []
