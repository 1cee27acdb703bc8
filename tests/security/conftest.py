"""Every test here carries out an attack, as an actor with only that actor's rights: see docs/security.md."""

from __future__ import annotations

from synced_fixtures import role, shared, synced, typed

__all__ = ["role", "shared", "synced", "typed"]
