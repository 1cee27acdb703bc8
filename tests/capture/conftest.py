from __future__ import annotations

from support.steps_fixtures import docs, quick_pauses, shared, synced, worker
from support.synced_fixtures import role

__all__ = ["docs", "quick_pauses", "role", "shared", "synced", "worker"]
