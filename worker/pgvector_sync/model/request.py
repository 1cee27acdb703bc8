"""What a run is asked to do: typed and frozen, made once at the edge, and stored as the `options` of its row.

The command line, `Sync`, the Celery task, the schedule and `apply` make a request; a worker reads it back from the
row. Roles that may insert into `run` can write options by hand: what isn't a valid request is `Unreadable`, and
the run fails with its reason instead of doing something that no one asked for.
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

SLOWEST = 0.01
"""Rows per second."""
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Kind(StrEnum):
    """What a run does."""

    BACKFILL = "backfill"
    """Enqueue every row of a new or changed pipeline, once; `apply` asks for it."""
    REEMBED = "reembed"
    """Enqueue the rows that were asked for."""
    RECONCILE = "reconcile"
    """Compare both tables and enqueue what has drifted."""


@dataclass(frozen=True, slots=True)
class Backfill:
    """Enqueue every row of the source. It has no options, and is carried out whatever its row says (G1)."""

    kind: ClassVar[Kind] = Kind.BACKFILL


@dataclass(frozen=True, slots=True)
class Reembed:
    """Read rows again; only texts whose vectors aren't stored are paid for, unless `force`.

    Raises Refused for a condition together with keys, and for a rate below `SLOWEST`.
    """

    where: str | None = None
    """An SQL condition over the columns of the source: only rows for which it is true."""
    keys: bool = False
    """Only rows whose keys are in the run's list (`run_key`)."""
    stale_only: bool = False
    """Enqueue only rows whose stored fingerprint differs, instead of looking at each when it is its turn."""
    force: bool = False
    """Pay again, even for texts whose vectors are stored."""
    rows_per_second: float | None = None
    """At most; None: as fast as the workers are."""

    kind: ClassVar[Kind] = Kind.REEMBED
    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        if self.where is not None and self.keys:
            raise Refused("either a condition or keys", hint="leave one of them out")
        rate = self.rows_per_second
        if rate is not None and not SLOWEST <= rate < math.inf:
            raise Refused(
                f"expected {SLOWEST:g} or more rows per second, got {rate:g}", hint="leave it out for no limit"
            )

    @property
    def narrows(self) -> bool:
        """Whether rows of the source may be passed over."""
        return self.where is not None or self.stale_only


@dataclass(frozen=True, slots=True)
class Reconcile:
    """Compare source and target from end to end; enqueue what has drifted, unless `dry_run`.

    Raises Refused for a size or share out of its range.
    """

    deep: bool = False
    """Compare the texts and vectors as well: reads every row."""
    dry_run: bool = False
    """Count what has drifted and enqueue nothing."""
    accept_orphans: bool = False
    """Remove orphaned vectors even above the pipeline's `orphan_share`."""
    page_rows: int | None = None
    """Rows per page, at most; None: as the pipeline's schedule says."""
    database_share: float = 1.0
    """Share of one connection's time, at most."""
    window: tuple[time, time] | None = None
    """From, until, in UTC: at other times it neither begins nor goes on."""

    kind: ClassVar[Kind] = Kind.RECONCILE
    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        if self.page_rows is not None and self.page_rows < 1:
            raise Refused(f"expected page_rows of 1 or more, got {self.page_rows}")
        if not 0 < self.database_share <= 1:
            raise Refused(f"expected a database_share above 0 and at most 1, got {self.database_share:g}")


Request = Backfill | Reembed | Reconcile
EVERY_ROW = Reembed()
BY_KEYS_AND_MODEL = Reconcile()
"""A reconciliation that reads no text."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Options that are no request; `reason` says which, and never quotes a value."""

    kind: Kind
    reason: str


_TYPES: dict[Kind, type[Reembed | Reconcile]] = {Kind.REEMBED: Reembed, Kind.RECONCILE: Reconcile}


@cache
def _adapter(kind: Kind) -> TypeAdapter[Any]:
    return TypeAdapter(_TYPES[kind])


def options_of(request: Request) -> dict[str, Any]:
    """The `options` of a run's row; what a request leaves at None or False isn't written."""
    if isinstance(request, Backfill):
        return {}
    written: dict[str, Any] = _adapter(request.kind).dump_python(request, mode="json")
    return {name: value for name, value in written.items() if value is not None and value is not False}


def read_request(kind: Kind, options: Any) -> Request | Unreadable:
    """What the `options` of a row ask for, whoever has written them."""
    if kind is Kind.BACKFILL:
        return Backfill()
    try:
        request: Request = _adapter(kind).validate_json(json.dumps(options))
    except RecursionError:
        return Unreadable(kind, "options: nested too deeply")
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, ("options", *problem["loc"])))
        said = "unknown option" if problem["type"] == "unexpected_keyword_argument" else problem["msg"]
        return Unreadable(kind, f"{place}: {said.replace('Input should be', 'expected')}")
    except Refused as refused:
        return Unreadable(kind, f"options: {refused}")
    return request
