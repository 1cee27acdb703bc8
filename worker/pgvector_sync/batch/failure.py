"""Failure: why a row can't be embedded or stored, as stored in work and shown with dead letters."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a row can't be embedded or stored. `message` never quotes the row."""

    error_class: str
    message: str
    fingerprint: bytes | None = None
    final: bool = True
    """Whether the row is parked at once. Otherwise it is tried again until it has no attempts left."""
    verdict: str | None = None
    """The verdict of an earlier dead letter with the same content, which still applies."""


TOO_SLOW = "expression_too_slow"
