from __future__ import annotations

from support.cluster_fixtures import cluster
from support.synced_fixtures import shared

__all__ = ["cluster", "shared"]
