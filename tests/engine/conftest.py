from __future__ import annotations

from support.synced_fixtures import role, shared, synced, typed

__all__ = ["role", "shared", "synced", "typed"]
