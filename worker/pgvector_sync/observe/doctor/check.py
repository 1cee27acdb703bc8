"""What a check says: how bad it is, what was seen, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import psycopg
from psycopg import sql
from redis.exceptions import RedisError

from pgvector_sync.database.explain import explain
from pgvector_sync.errors import SyncError


class Level(StrEnum):
    OK = "ok"
    """Fine; advice that comes with it is a remark."""
    WARNING = "warning"
    """It works, but not as well or as long as it could."""
    ERROR = "error"
    """Something doesn't work, or will fail."""


@dataclass(frozen=True, slots=True)
class Finding:
    level: Level
    seen: str
    advice: str | None = None
    """The statement or command that mends it."""


def ok(seen: str, remark: str | None = None) -> Finding:
    return Finding(Level.OK, seen, remark)


def warning(seen: str, advice: str) -> Finding:
    return Finding(Level.WARNING, seen, advice)


def error(seen: str, advice: str) -> Finding:
    return Finding(Level.ERROR, seen, advice)


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `doctor`, as `--json` prints it; see docs/doctor.md for the names."""

    name: str
    level: Level
    seen: str
    advice: str | None
    pipeline: str | None
    """None: it concerns all of them."""


def guarded(name: str, look: Callable[[], Iterator[Finding]], *, pipeline: str | None = None) -> list[Check]:
    """What `look` finds. A failure of its own is one more finding, so that it never hides the other checks."""
    found: list[Finding] = []
    try:
        for finding in look():
            found.append(finding)  # noqa: PERF402 - what was found before a failure counts
    except SyncError as failure:
        found.append(error(str(failure), failure.hint or "see docs/doctor.md"))
    except psycopg.Error as failure:
        what, advice = explain(failure)
        found.append(error(f"this could not be looked at: {what}", advice))
    except RedisError as failure:
        kind = type(failure).__name__
        found.append(error(f"this could not be looked at ({kind})", "check REDIS_URL, and that the server runs"))
    except OSError as failure:
        said = failure.strerror or type(failure).__name__
        found.append(error(f"this could not be looked at: {said}", "look again; if it stays, see docs/doctor.md"))
    except Exception as failure:  # noqa: BLE001 - a bug of ours in one check must not hide the others
        found.append(error(f"this check failed itself ({type(failure).__name__})", "please report it as a bug"))
    return [Check(name, finding.level, finding.seen, finding.advice, pipeline) for finding in found]


def quoted(*name: str) -> str:
    """A name as SQL writes it: `"public"."docs"`."""
    return sql.Identifier(*name).as_string()
