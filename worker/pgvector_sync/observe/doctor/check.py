"""Runs a check of doctor, and turns its failure into a finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
from psycopg import sql
from redis.exceptions import RedisError

from pgvector_sync.database.explain import explain
from pgvector_sync.errors import SyncError
from pgvector_sync.observe.finding import Check, Finding, error


def guarded(name: str, look: Callable[[], Iterator[Finding]], *, pipeline: str | None = None) -> list[Check]:
    """Run one check. A failure of the check itself becomes an error entry, so that the other checks still run."""
    findings: list[Finding] = []
    try:
        for finding in look():
            findings.append(finding)  # noqa: PERF402 - findings before a failure are kept
    except SyncError as failure:
        findings.append(error(str(failure), failure.hint or "see docs/doctor.md"))
    except psycopg.Error as failure:
        what, advice = explain(failure)
        findings.append(error(f"check failed: {what}", advice))
    except RedisError as failure:
        kind = type(failure).__name__
        findings.append(error(f"check failed ({kind})", "check REDIS_URL, and that the server is running"))
    except OSError as failure:
        reason = failure.strerror or type(failure).__name__
        findings.append(
            error(f"check failed: {reason}", "run doctor again; if it fails again, see docs/doctor.md")
        )
    except Exception as failure:  # noqa: BLE001 - a bug in one check must not hide the others
        findings.append(
            error(f"check failed because of a bug in pgvector-sync ({type(failure).__name__})", "please report it")
        )
    return [Check(name, finding.level, finding.seen, finding.advice, pipeline) for finding in findings]


def quoted(*name: str) -> str:
    """Return a name quoted for SQL: `"public"."docs"`."""
    return sql.Identifier(*name).as_string()
