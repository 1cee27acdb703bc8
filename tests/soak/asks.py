"""Requests runs during the soak: re-embeds of some rows, and reconciliations, which must find nothing."""

from __future__ import annotations

import random
import threading
from collections import Counter

import psycopg
from writers import RANGE

from pgvector_sync.database import Database as OurDatabase
from pgvector_sync.errors import Refused
from pgvector_sync.model.request import Reconcile, Reembed
from pgvector_sync.runs.requests import request_reconcile, request_reembed
from support.servers import Database


class Asks(threading.Thread):
    """Requests a run every few seconds; at most one of each kind runs at a time."""

    def __init__(self, ours: OurDatabase, seed: int) -> None:
        super().__init__(name="asks", daemon=True)
        self.ours = ours
        self.random = random.Random(seed + 100)
        self.stopping = threading.Event()
        self.counts: Counter[str] = Counter()

    def run(self) -> None:
        while not self.stopping.wait(self.random.uniform(1, 6)):
            try:
                self._ask()
            except Refused:
                self.counts["refused: one is running"] += 1
            except psycopg.OperationalError:
                self.counts["out of reach"] += 1

    def _ask(self) -> None:
        if self.random.random() < 0.6:
            deep, page_rows = self.random.random() < 0.7, self.random.choice([3, 50, 1000])
            request_reconcile(self.ours, "docs", Reconcile(deep=deep, page_rows=page_rows))
            self.counts["reconcile"] += 1
            return
        low = self.random.randrange(0, 3 * RANGE)
        force = self.random.random() < 0.5
        request_reembed(self.ours, "docs", Reembed(where=f"id BETWEEN {low} AND {low + RANGE}", force=force))
        self.counts["reembed"] += 1


def drift_found(database: Database) -> int:
    """The number of rows that reconciliations reported as drifted."""
    kinds = "missing + stale + orphaned + wrong_model + broken + incomplete"
    return int(database.value(f"SELECT coalesce(sum({kinds}), 0) FROM pgvector_sync.drift"))
