"""Holds the counters of /metrics together with what triggers have counted, and checks that none falls."""

from __future__ import annotations

import threading

import psycopg

from pgvector_sync.database import Database as OurDatabase
from support.scraped import Scrape, scrape
from support.servers import Database
from support.waiting import eventually

GROWING = ("_total", "_count", "_sum", "_bucket")
ACKNOWLEDGED = ("stored", "removed", "absent", "unchanged")

TRIGGERS = """
CREATE TABLE counted (what text, amount bigint);
CREATE FUNCTION count_deleted_work() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $f$
BEGIN
    INSERT INTO counted SELECT 'acknowledged', count(*) FROM gone WHERE lease IS NOT NULL HAVING count(*) > 0;
    RETURN NULL;
END
$f$;
CREATE TRIGGER count_deleted_work AFTER DELETE ON pgvector_sync.work
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION count_deleted_work();
CREATE FUNCTION count_lease() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $f$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.claim_seconds IS NOT NULL THEN INSERT INTO counted VALUES ('batches', 1); END IF;
    ELSIF OLD.lost_at IS NULL AND NEW.lost_at IS NOT NULL THEN
        INSERT INTO counted VALUES ('leases lost', 1);
    END IF;
    RETURN NULL;
END
$f$;
CREATE TRIGGER count_lease AFTER INSERT OR UPDATE OF lost_at ON pgvector_sync.lease
FOR EACH ROW EXECUTE FUNCTION count_lease();
"""
"""Counts in the same transactions, so that a crash of the server, which loses the latest of them, loses both."""


class Scrapes(threading.Thread):
    """Scrapes all the time, and keeps the counters that have fallen, though the server hadn't been restarted."""

    def __init__(self, ours: OurDatabase, database: Database) -> None:
        super().__init__(name="scrapes", daemon=True)
        self.ours, self.database = ours, database
        self.stopping = threading.Event()
        self.count = 0
        self.fallen: list[str] = []

    def run(self) -> None:
        before: tuple[object, Scrape] | None = None
        while not self.stopping.wait(0.25):
            try:
                started = self._server_start()
                found = scrape(self.ours)
                if found.value("up") != 1 or self._server_start() != started:
                    continue
            except psycopg.OperationalError:
                continue
            self.count += 1
            if before is not None and before[0] == started:
                self._compare(before[1], found)
            before = started, found

    def _server_start(self) -> object:
        return self.database.value("SELECT pg_postmaster_start_time()")

    def _compare(self, old: Scrape, new: Scrape) -> None:
        for (name, labels), value in old.samples.items():
            if name.endswith(GROWING) and not new.samples.get((name, labels), -1.0) >= value:
                self.fallen.append(f"{name}{dict(labels)}: {value!r} -> {new.samples.get((name, labels))!r}")


def differences(ours: OurDatabase, database: Database, requests: int) -> dict[str, tuple[float, float]]:
    """Returns what the counters say and what is true, where these differ, once all leases have ended.

    `requests`: how many the endpoint has received. Those of killed workers aren't counted.
    """
    eventually(
        lambda: database.value("SELECT count(*) FROM pgvector_sync.lease") == 0, 60, what="no lease is left"
    )
    found = scrape(ours)
    true = {
        what: int(amount) for what, amount in database.execute("SELECT what, sum(amount) FROM counted GROUP BY 1")
    }

    def total(name: str, **having: str) -> float:
        return sum(value for labels, value in found.all(name).items() if having.items() <= dict(labels).items())

    acknowledged = sum(total("rows_total", outcome=outcome) for outcome in ACKNOWLEDGED)
    highest = sum(
        max(
            value
            for labels, value in found.all("change_to_vector_seconds_bucket").items()
            if ("lane", lane) in labels
        )
        for lane in ("live", "bulk")
    )
    calls = total("provider_calls_total")
    pairs = {
        "acknowledged rows": (acknowledged, true["acknowledged"]),
        "rows in the histogram": (total("change_to_vector_seconds_count"), true["acknowledged"]),
        "rows in its last bucket": (highest, true["acknowledged"]),
        "batches": (total("batches_total"), true["batches"]),
        "claims in the histogram": (total("claim_seconds_count"), true["batches"]),
        "lost leases": (total("leases_lost_total"), true.get("leases lost", 0)),
        "calls in the histogram": (total("provider_call_seconds_count"), calls),
    }
    found_differences = {what: pair for what, pair in pairs.items() if pair[0] != pair[1]}
    if calls > requests:
        found_differences["calls, at most those received"] = (calls, requests)
    print(
        "counters         ",
        {what: int(pair[0]) for what, pair in pairs.items()},
        f"{calls:g} of {requests} calls",
    )
    return found_differences
