from __future__ import annotations

from support.synced_fixtures import shared, synced, typed

__all__ = ["shared", "synced", "typed"]
