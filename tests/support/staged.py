"""A database in which several pipelines are in different states, with a day of history: for the status page."""

from __future__ import annotations

import math
import random
from datetime import timedelta

from pgvector_sync.model.request import Reconcile
from pgvector_sync.runs import requests
from pgvector_sync.runs.run import carry_out
from support.synced import Synced
from support.waiting import within

TABLES = ("articles", "products", "tickets", "reviews", "wiki", "archive", "faq")
SIZES = {
    "articles": 84_210,
    "products": 1_240_000,
    "tickets": 312_554,
    "reviews": 2_318_402,
    "wiki": 46_833,
    "archive": 905_120,
    "faq": 1_204,
}
TOKENS = {"articles": 812_400, "products": 148_300_000, "tickets": 92_100, "reviews": 6_410_000, "wiki": 40_200}


def stage(synced: Synced) -> None:
    """Bring seven pipelines into their states by the protocol itself; sizes, costs and the past are written directly."""
    for table in TABLES:
        synced.run(f"CREATE TABLE {table} (id bigint PRIMARY KEY, body text)")
        synced.run(f"INSERT INTO {table} SELECT n, '{table} ' || n FROM generate_series(1, 40) n")
    for table in ("articles", "tickets", "reviews", "wiki", "archive", "faq"):
        name = "support_tickets" if table == "tickets" else table
        synced.declare(name, source=table)
    synced.apply()
    synced.settle()
    for table in ("articles", "reviews", "tickets", "wiki"):
        synced.run(
            f"CREATE INDEX {table}_embedding_hnsw ON {table}_embedding USING hnsw (embedding vector_cosine_ops)"
        )
    _drift(synced)
    _dead_letters(synced)
    synced.run(
        "UPDATE pgvector_sync.pipeline SET state = 'paused', reason = 'until the migration on Monday' WHERE name = 'archive'"
    )
    synced.run("UPDATE archive SET body = body || ' (moved)' WHERE id < 9")
    synced.turns(2)
    synced.run(
        "UPDATE pgvector_sync.work w SET waiting_since = waiting_since - interval '5 hours' FROM pgvector_sync.pipeline p WHERE p.id = w.pipeline_id AND p.name = 'archive'"
    )
    _provider_refuses(synced)
    _backfill(synced)
    _sizes(synced)
    _history(synced)
    synced.run(
        "INSERT INTO pgvector_sync.worker (id, name, slots, seen_at) SELECT gen_random_uuid(), n, 8, statement_timestamp() + interval '1 hour'"
        " FROM unnest(ARRAY['embed-7c9f4:worker:17', 'embed-7c9f4:worker:18', 'embed-b21d8:worker:17']) n",
        "UPDATE pgvector_sync.worker SET seen_at = statement_timestamp(), relayed_at = CASE WHEN name LIKE '%:18' THEN statement_timestamp() END",
        "INSERT INTO pgvector_sync.tick (name, last_at) VALUES ('tick', statement_timestamp() - interval '4 seconds')"
        " ON CONFLICT (name) DO UPDATE SET last_at = excluded.last_at",
    )


def _drift(synced: Synced) -> None:
    synced.run("DELETE FROM wiki_embedding WHERE id < 4")
    asked = requests.request_reconcile(synced.runtime.database, "wiki", Reconcile(deep=True))
    carry_out(synced.runtime, asked.run_id, until=within(20))
    synced.settle()
    synced.run(
        "INSERT INTO pgvector_sync.drift (pipeline_id, run_id, at, deep, rows, vectors, missing, stale, orphaned, wrong_model, broken, incomplete, stuck)"
        " SELECT id, 1, statement_timestamp() - n * interval '1 day', n % 7 = 0, s.rows - n * 31, s.rows - n * 31, 0, 0, 0, 0, 0, 0, 0"
        " FROM pgvector_sync.pipeline JOIN (VALUES ('wiki', 46833), ('articles', 84210), ('support_tickets', 312554)) s (name, rows) USING (name), generate_series(1, 6) n"
    )


def _dead_letters(synced: Synced) -> None:
    synced.endpoint.fail(status=400, code="content_filter", marker="poison")
    synced.run(
        "INSERT INTO reviews SELECT n, 'poison ' || n FROM generate_series(100, 106) n",
        "INSERT INTO reviews SELECT n, repeat('long ', 900) FROM generate_series(200, 201) n",
    )
    synced.settle()
    synced.endpoint.heal()
    synced.run(
        "UPDATE pgvector_sync.work SET parked_at = parked_at - (random() * 50 + 1) * interval '1 hour' WHERE verdict = 'dead'"
    )


def _provider_refuses(synced: Synced) -> None:
    synced.endpoint.fail(status=401, code="invalid_api_key")
    synced.run("UPDATE tickets SET body = body || ' again' WHERE id <= 37")
    synced.turns(4)
    synced.run(
        "UPDATE pgvector_sync.pipeline SET retry_at = statement_timestamp() + interval '40 seconds' WHERE name = 'support_tickets'"
    )
    synced.run(
        "UPDATE pgvector_sync.work SET waiting_since = waiting_since - interval '23 minutes' WHERE pipeline_id = (SELECT id FROM pgvector_sync.pipeline WHERE name = 'support_tickets')"
    )
    synced.endpoint.heal()


def _backfill(synced: Synced) -> None:
    synced.declare("products", source="products")
    synced.apply()
    [(run,)] = synced.database.execute("SELECT id FROM pgvector_sync.run WHERE state = 'running'")
    carry_out(synced.runtime, run, until=within(20))
    synced.run(
        "UPDATE pgvector_sync.run SET walked = false, rows_total = 1240000, rows_seen = 822400, rows_enqueued = 822400,"
        " started_at = started_at - interval '41 minutes' WHERE state = 'running'",
        f"UPDATE pgvector_sync.work SET waiting_since = waiting_since - interval '54 seconds' WHERE run_id = {run}",
    )


def _sizes(synced: Synced) -> None:
    for table, rows in SIZES.items():
        synced.run(f"UPDATE pg_class SET reltuples = {rows} WHERE relname = '{table}'")
    for table, tokens in TOKENS.items():
        name = "support_tickets" if table == "tickets" else table
        synced.run(
            "INSERT INTO pgvector_sync.usage (pipeline_id, day, requests, tokens, inputs, usd)"
            f" SELECT id, (statement_timestamp() AT TIME ZONE 'UTC')::date, {tokens // 61_000 + 1}, {tokens}, {tokens // 180}, {tokens * 0.02 / 1e6}"
            f" FROM pgvector_sync.pipeline WHERE name = '{name}'"
            " ON CONFLICT (pipeline_id, day) DO UPDATE SET requests = excluded.requests, tokens = excluded.tokens, inputs = excluded.inputs, usd = excluded.usd"
        )
    synced.run(
        "UPDATE pgvector_sync.pipeline SET price = 0.02, tokens_per_day = CASE WHEN name = 'products' THEN 400000000 END",
        "UPDATE pgvector_sync.drift d SET rows = 46833, vectors = 46830 WHERE missing > 0",
        "UPDATE pgvector_sync.throughput SET rows = 0",
        "INSERT INTO pgvector_sync.throughput (pipeline_id, minute, rows) SELECT id, date_trunc('minute', statement_timestamp()) - n * interval '1 minute',"
        " CASE name WHEN 'products' THEN 20100 WHEN 'articles' THEN 84 WHEN 'reviews' THEN 702 WHEN 'faq' THEN 0 ELSE 5 END FROM pgvector_sync.pipeline, generate_series(0, 1) n"
        " WHERE name NOT IN ('support_tickets', 'archive')"
        " ON CONFLICT (pipeline_id, minute) DO UPDATE SET rows = excluded.rows",
    )


def _history(synced: Synced) -> None:
    """A point per minute, as the job records it."""
    synced.run("DELETE FROM pgvector_sync.history")  # what was recorded while staging
    ids = dict(synced.database.execute("SELECT name, id FROM pgvector_sync.pipeline"))
    rows = []
    chance = random.Random(7)
    for name, pipeline in ids.items():
        size = SIZES["tickets" if name == "support_tickets" else name]
        first = 41 if name == "products" else 24 * 60
        rows += [
            (pipeline, timedelta(minutes=minutes), *_sample(name, minutes, size, chance))
            for minutes in range(first, -1, -1)
        ]
    with synced.database.connect() as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO pgvector_sync.history (pipeline_id, at, lag_seconds, waiting, in_flight, dead, source_rows, fresh_rows, rows_per_second)"
            " VALUES (%s, date_trunc('minute', statement_timestamp()) - %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            rows,
        )


def _sample(
    name: str, minutes: int, size: int, chance: random.Random
) -> tuple[float | None, int, int, int, int, int, float]:
    day = 0.55 + 0.45 * math.sin((minutes / 1440 + 0.15) * 2 * math.pi)
    noise = chance.random()
    rate = (
        {"articles": 1.6, "reviews": 11.0, "support_tickets": 3.0, "wiki": 0.2}.get(name, 0.05)
        * day
        * (0.6 + 0.8 * noise)
    )
    lag: float | None = 0.08 + 0.35 * noise * day
    waiting, dead = int(rate * 0.4), 9 if name == "reviews" and minutes < 2600 else 0
    fresh = size - waiting - dead
    if name == "products":
        rate, waiting, lag = 318 + 40 * noise, 19_000 + int(900 * noise), 52 + 9 * noise
        fresh = int(size * (41 - minutes) / 41 * 0.66)
    if name == "reviews" and 500 <= minutes <= 530:
        lag, waiting = 4.0 + (530 - minutes) * 3 * (1 if minutes > 508 else 0.15), 900 + (530 - minutes) * 90
        fresh = size - waiting - dead
    if name == "support_tickets" and minutes <= 23:
        rate, lag, waiting = 0.0, (23 - minutes) * 60.0, int((23 - minutes) * 1.6)
        fresh = size - waiting
    if name == "archive" and minutes < 300:
        rate, lag, waiting, fresh = 0.0, (300 - minutes) * 60.0, 8, size - 8
    if name in {"faq", "wiki"} and noise < 0.8:
        lag, waiting, rate = None, 0, 0.0
    return lag, waiting, min(waiting, 512), dead, size, fresh, rate
