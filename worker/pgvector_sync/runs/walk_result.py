"""What a walk through the rows of a run says about its end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class WalkResult:
    """The state of a run after it was carried out for a while."""

    ended: bool
    resume_in: timedelta | None = None
    """How long to wait before continuing. None for the default."""
