from __future__ import annotations

from synced_fixtures import role, shared, synced

__all__ = ["role", "shared", "synced"]
