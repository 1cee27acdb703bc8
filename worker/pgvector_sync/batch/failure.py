"""Why a row can't be embedded or stored, as it is kept in work and shown with dead letters."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a row can't be embedded: a class, and our own words without its text."""

    error_class: str
    message: str
    fingerprint: bytes | None = None
    final: bool = True
    """False: the attempt is used up, and the row is tried again until none is left."""
    verdict: str | None = None
    """Carried over when a row that was parked before shows the same content again."""


TOO_SLOW = "expression_too_slow"
