from __future__ import annotations

from support.steps_fixtures import docs, quick_pauses, shared, synced, worker

__all__ = ["docs", "quick_pauses", "shared", "synced", "worker"]
