"""What one scrape of /metrics costs on a large database.

    python benchmarks/scrape.py                    ten million rows, a million waiting: about a minute
    python benchmarks/scrape.py --pipelines 100 --waiting 10000

The sources have only their statistics, since a scrape reads nothing else of them; work and dead letters are real.
Prints the median of ten scrapes after two that warm up.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from declared import pipeline

from pgvector_sync.observe.metrics.collector import exposition
from support.endpoint import Endpoint
from support.servers import new_database, running_postgres

SCRAPES = 10
WARM_UP = 2
DEAD = 10_000
"""Dead letters per pipeline."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of each source")
    parser.add_argument("--waiting", type=int, default=1_000_000, help="rows waiting, of all pipelines together")
    parser.add_argument("--pipelines", type=int, default=3)
    arguments = parser.parse_args()
    with (
        running_postgres(18) as server,
        new_database(server) as database,
        Endpoint() as endpoint,
        pipeline(database, endpoint) as runtime,
    ):
        database.execute(
            "INSERT INTO pgvector_sync.pipeline (name, source_id, target_schema, target_table, text_sql, "
            "text_given, read_columns, provider, model, dimensions, metric, vector_type) "
            "SELECT 'p' || n, source_id, target_schema, 't' || n, text_sql, "
            "text_given, read_columns, provider, model, dimensions, metric, vector_type "
            "FROM pgvector_sync.pipeline, generate_series(2, %s::int) AS n",
            arguments.pipelines,
        )
        waiting = arguments.waiting // arguments.pipelines
        database.execute(
            "INSERT INTO pgvector_sync.work (pipeline_id, key, lane, waiting_since, visible_at) "
            "SELECT p.id, jsonb_build_array(n), CASE WHEN n %% 2 = 0 THEN 'live' ELSE 'bulk' END, now(), now() "
            "FROM pgvector_sync.pipeline p, generate_series(1, %s::int) AS n",
            waiting,
        )
        database.execute(
            "INSERT INTO pgvector_sync.work "
            "(pipeline_id, key, lane, waiting_since, visible_at, parked_at, verdict, error_class) "
            "SELECT p.id, jsonb_build_array(-n), 'live', now(), now(), now(), 'dead', 'input_rejected' "
            "FROM pgvector_sync.pipeline p, generate_series(1, %s::int) AS n",
            DEAD,
        )
        database.execute("VACUUM ANALYZE pgvector_sync.work")
        database.execute("UPDATE pg_class SET reltuples = %s WHERE relname = 'docs'", float(arguments.rows))
        times = []
        for _ in range(WARM_UP + SCRAPES):
            started = time.monotonic()
            text = exposition(runtime.database)
            times.append(time.monotonic() - started)
        assert b"pgvector_sync_up 1.0" in text
        print(
            f"{arguments.pipelines} pipelines of {arguments.rows:,} rows, {arguments.waiting:,} rows waiting, "
            f"{DEAD:,} dead letters each: a scrape takes "
            f"{statistics.median(times[WARM_UP:]) * 1000:.0f} ms and has {len(text):,} bytes"
        )


if __name__ == "__main__":
    main()
