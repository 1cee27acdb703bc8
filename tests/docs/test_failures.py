"""docs/failures.md lists every failure, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pgvector_sync
from batch.failure_cases import STOPPING, table
from pgvector_sync.batch.failure import TOO_SLOW
from pgvector_sync.errors import BrokenContract, InputRejected, QuotaUsedUp, RateLimited, Unavailable


def test_the_docs_list_every_failure_of_the_provider_and_no_other() -> None:
    tested = {case.row for case in STOPPING.values()} | {"timeout", "certificate", "unreachable", "dialect"}
    tested |= {"environment"}  # tests/embedding/test_surroundings.py
    tested |= {"host", "binding"}  # tests/embedding/test_hosts.py
    tested |= {"proxy", "denying proxy"}  # tests/embedding/test_proxies.py
    tested |= {"authority"}  # tests/embedding/test_authorities.py
    tested |= {"addition"}  # tests/security/test_provider_row.py
    assert set(table("Failures of the provider")) == tested


def test_the_docs_list_every_class_of_dead_letters_and_no_other() -> None:
    worker = Path(pgvector_sync.__file__).parent
    source = "".join(path.read_text("utf-8") for path in worker.rglob("*.py"))
    classes = set(re.findall(r'Failure\(\s*"(\w+)"', source))
    classes |= {error.name for error in (InputRejected, Unavailable, BrokenContract, RateLimited, QuotaUsedUp)}
    classes |= {"worker_crashed", "key_refused_…", TOO_SLOW}
    assert {name.strip("`") for name in table("Dead letters")} == classes
