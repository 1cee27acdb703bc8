"""Bugs of pgvector that a version has. Each was checked against pgvector's changelog and issues, up to 0.8.6."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

Version = tuple[int, ...]
HNSW = "hnsw"
IVFFLAT = "ivfflat"
NEWEST_KNOWN = "0.8.6"
"""The newest release when this table was written (2026-07-29). Bugs fixed later aren't in it."""

BUILD_ALONE = "SET max_parallel_maintenance_workers = 0; before each build of an HNSW index"


@dataclass(frozen=True, slots=True)
class Bug:
    """One bug, in the versions from `since` up to but without `fixed_in`."""

    since: str
    fixed_in: str
    method: str
    """The access method it concerns."""
    what: str
    source: str
    """The issue or pull request of pgvector."""
    cve: str | None = None
    corrupts: bool = False
    """Whether an index may be damaged. It stays damaged after an upgrade, until REINDEX."""
    workaround: str | None = None
    only_32_bit: bool = False
    minor: bool = False
    """Whether it only makes a statement fail, which says so."""

    @property
    def label(self) -> str:
        return f"{self.cve}: {self.what}" if self.cve else self.what


BUGS = (
    Bug(
        "0.6.0",
        "0.8.2",
        HNSW,
        "a parallel HNSW build can leak data of other relations or crash the server",
        "https://github.com/pgvector/pgvector/issues/959",
        cve="CVE-2026-3172",
        workaround=BUILD_ALONE,
    ),
    Bug(
        "0.5.0",
        "0.8.3",
        HNSW,
        "VACUUM during inserts can corrupt an HNSW index",
        "https://github.com/pgvector/pgvector/pull/988",
        corrupts=True,
    ),
    Bug(
        "0.5.0",
        "0.8.4",
        HNSW,
        "an insert during VACUUM of an HNSW index can fail",
        "https://github.com/pgvector/pgvector/blob/master/CHANGELOG.md#084-2026-06-30",
    ),
    Bug(
        "0.8.3",
        "0.8.4",
        HNSW,
        'VACUUM can fail with "hnsw graph not repaired"',
        "https://github.com/pgvector/pgvector/issues/993",
    ),
    Bug(
        "0.6.0",
        "0.7.4",
        HNSW,
        "parallel HNSW builds lack a lock",
        "https://github.com/pgvector/pgvector/blob/master/CHANGELOG.md#074-2024-08-05",
        workaround=BUILD_ALONE,
    ),
    Bug(
        "0.8.4",
        "0.8.5",
        IVFFLAT,
        'CREATE INDEX of an IVFFlat index on a small table fails with "memory required is …"',
        "https://github.com/pgvector/pgvector/issues/995",
        workaround="raise maintenance_work_mem for the build",
        minor=True,
    ),
    Bug(
        "0.1.0",
        "0.8.6",
        IVFFLAT,
        "an IVFFlat build on a 32-bit system can write out of bounds",
        "https://github.com/pgvector/pgvector/issues/1006",
        cve="CVE-2026-18022",
        only_32_bit=True,
    ),
)


def parse(version: str) -> Version:
    """Return the numbers of a version: `0.8.0` and `0.8` are the same."""
    numbers = [int(number) for number in re.findall(r"\d+", version)[:3]]
    return tuple(numbers + [0] * (3 - len(numbers)))


def newest_of(*versions: str) -> str:
    """Return the newest of these versions."""
    return max(versions, key=parse)


def known_bugs(version: str, *, bits: int = 64, methods: Collection[str] = (HNSW, IVFFLAT)) -> list[Bug]:
    """Return the bugs of a version, in the order of BUGS.

    bits: 32 or 64, of the server's build.
    methods: the access methods that matter.
    """
    number = parse(version)
    return [
        bug
        for bug in BUGS
        if parse(bug.since) <= number < parse(bug.fixed_in)
        and bug.method in methods
        and (bits == 32 or not bug.only_32_bit)
    ]


def upgrade(bugs: Collection[Bug], *, reindex: Collection[str] = ()) -> str:
    """Return what to do about these bugs.

    reindex: the quoted names of HNSW indexes, if they are known.
    """
    target = newest_of(*(bug.fixed_in for bug in bugs))
    steps = [f"install pgvector {target} or later on the server, then: ALTER EXTENSION vector UPDATE;"]
    if any(bug.corrupts for bug in bugs):
        steps += [f"REINDEX INDEX CONCURRENTLY {name};" for name in reindex] or [
            "then REINDEX INDEX CONCURRENTLY each HNSW index, since an upgrade doesn't repair it"
        ]
    steps += dict.fromkeys(f"until then: {bug.workaround}" for bug in bugs if bug.workaround)
    return "\n".join(steps)
