from __future__ import annotations

from cluster_fixtures import cluster
from synced_fixtures import shared

__all__ = ["cluster", "shared"]
