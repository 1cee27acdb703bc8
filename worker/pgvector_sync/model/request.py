"""Run requests: typed, frozen, and stored as the `options` of a run's row.

The command line, `Sync`, the Celery task, the schedule and `apply` create a request; a worker reads it from the
row. Roles that may insert into `run` can write arbitrary options: those that aren't a valid request become
`Unreadable`, and the run fails with that reason instead of doing something that wasn't requested.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import time
from enum import StrEnum
from functools import cache
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from pgvector_sync.errors import Refused

MINIMUM_RATE = 0.01
"""In rows per second."""
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Kind(StrEnum):
    """The kind of a run."""

    BACKFILL = "backfill"
    """Enqueue every row of a new or changed pipeline, once. Started by `apply`."""
    REEMBED = "reembed"
    """Enqueue the selected rows."""
    RECONCILE = "reconcile"
    """Compare source and target, and enqueue what has drifted."""


@dataclass(frozen=True, slots=True)
class Backfill:
    """Enqueue every row of the source. It has no options: those in its row are ignored (G1)."""

    kind: ClassVar[Kind] = Kind.BACKFILL


@dataclass(frozen=True, slots=True)
class Reembed:
    """Read rows again. Only texts whose vectors aren't stored are paid for, unless `force`.

    Raises Refused for a condition together with keys, and for a rate below `MINIMUM_RATE`.
    """

    where: str | None = None
    """Only rows that meet this SQL condition over the columns of the source."""
    keys: bool = False
    """Only rows whose keys are in the run's list (table `run_key`)."""
    stale_only: bool = False
    """Only rows whose stored fingerprint differs. Without it, workers compare the fingerprint of every row."""
    force: bool = False
    """Pay again, even for texts whose vectors are stored."""
    rows_per_second: float | None = None
    """The maximum rate; None: as fast as the workers are."""

    kind: ClassVar[Kind] = Kind.REEMBED
    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        if self.where is not None and self.keys:
            raise Refused("expected a condition or keys, got both", hint="leave one of them out")
        rate = self.rows_per_second
        if rate is not None and not MINIMUM_RATE <= rate < math.inf:
            raise Refused(
                f"expected {MINIMUM_RATE:g} or more rows per second, got {rate:g}",
                hint="leave it out for no limit",
            )

    @property
    def narrows(self) -> bool:
        """Whether it may skip rows of the source."""
        return self.where is not None or self.stale_only


@dataclass(frozen=True, slots=True)
class Reconcile:
    """Compare source and target from end to end, and enqueue what has drifted unless `dry_run`.

    Raises Refused if `page_rows` or `database_share` is out of range.
    """

    deep: bool = False
    """Also compare texts and vectors, which reads every row."""
    dry_run: bool = False
    """Count what has drifted, and enqueue nothing."""
    accept_orphans: bool = False
    """Remove orphaned vectors even above the pipeline's `orphan_share`."""
    page_rows: int | None = None
    """The maximum number of rows per page; None: that of the pipeline's schedule."""
    database_share: float = 1.0
    """The maximum share of one connection's time."""
    window: tuple[time, time] | None = None
    """Begin and end of the daily time window (UTC) outside of which it pauses."""

    kind: ClassVar[Kind] = Kind.RECONCILE
    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        if self.page_rows is not None and self.page_rows < 1:
            raise Refused(f"expected page_rows of 1 or more, got {self.page_rows}")
        if not 0 < self.database_share <= 1:
            raise Refused(f"expected a database_share above 0 and at most 1, got {self.database_share:g}")


Request = Backfill | Reembed | Reconcile
EVERY_ROW = Reembed()
"""A re-embed of every row."""
BY_KEYS_AND_MODEL = Reconcile()
"""A reconciliation that reads no text."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Options that aren't a valid request. `reason` names the wrong option, and never quotes a value."""

    kind: Kind
    reason: str


_TYPES: dict[Kind, type[Reembed | Reconcile]] = {Kind.REEMBED: Reembed, Kind.RECONCILE: Reconcile}


@cache
def _adapter(kind: Kind) -> TypeAdapter[Any]:
    return TypeAdapter(_TYPES[kind])


def options_of(request: Request) -> dict[str, Any]:
    """Returns the `options` of a run's row, without those that are None or False."""
    if isinstance(request, Backfill):
        return {}
    written: dict[str, Any] = _adapter(request.kind).dump_python(request, mode="json")
    return {name: value for name, value in written.items() if value is not None and value is not False}


def read_request(kind: Kind, options: Any) -> Request | Unreadable:
    """Reads a request from the `options` of a run's row, which may contain anything."""
    if kind is Kind.BACKFILL:
        return Backfill()
    try:
        request: Request = _adapter(kind).validate_json(json.dumps(options))
    except RecursionError:
        return Unreadable(kind, "options: nested too deeply")
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, ("options", *problem["loc"])))
        reason = "unknown option" if problem["type"] == "unexpected_keyword_argument" else problem["msg"]
        return Unreadable(kind, f"{place}: {reason.replace('Input should be', 'expected')}")
    except Refused as refused:
        return Unreadable(kind, f"options: {refused}")
    return request
