-- Counters of batches and provider calls, and the history of each pipeline.

-- part: add
-- The end of a statement that has deleted leases as `ended`: adds what their batches have done to the totals. Those of a run have
-- no batches, and count only if they were lost.
INSERT INTO pgvector_sync.batch_totals AS t (
    pipeline_id, lane, batches, leases_lost, stored, removed, absent, unchanged, superseded, parked, released, backed_off,
    wait_seconds, wait_buckets, claim_seconds, claim_buckets)
SELECT e.pipeline_id, e.lane, count(e.claim_seconds), count(e.lost_at), sum(e.stored), sum(e.removed), sum(e.absent),
       sum(e.unchanged), sum(e.superseded), sum(e.parked), sum(e.released), sum(e.backed_off),
       sum(e.wait_seconds), pgvector_sync.sum_each(e.wait_buckets),
       coalesce(sum(e.claim_seconds), 0), ARRAY[{claim_buckets}]
FROM ended e WHERE e.claim_seconds IS NOT NULL OR e.lost_at IS NOT NULL
GROUP BY e.pipeline_id, e.lane ORDER BY e.pipeline_id, e.lane
ON CONFLICT (pipeline_id, lane, batch) DO UPDATE SET
    batches = t.batches + excluded.batches, leases_lost = t.leases_lost + excluded.leases_lost,
    stored = t.stored + excluded.stored, removed = t.removed + excluded.removed, absent = t.absent + excluded.absent,
    unchanged = t.unchanged + excluded.unchanged, superseded = t.superseded + excluded.superseded,
    parked = t.parked + excluded.parked, released = t.released + excluded.released,
    backed_off = t.backed_off + excluded.backed_off, wait_seconds = t.wait_seconds + excluded.wait_seconds,
    wait_buckets = pgvector_sync.add_each(t.wait_buckets, excluded.wait_buckets),
    claim_seconds = t.claim_seconds + excluded.claim_seconds,
    claim_buckets = pgvector_sync.add_each(t.claim_buckets, excluded.claim_buckets)

-- name: add_apart
-- Adds what a transaction of a batch has done to totals of this batch's own, because another session has locked its lease.
INSERT INTO pgvector_sync.batch_totals AS t (
    pipeline_id, lane, batch, stored, removed, absent, unchanged, superseded, wait_seconds, wait_buckets)
SELECT l.pipeline_id, l.lane, l.id, %(stored)s, %(removed)s, %(absent)s, %(unchanged)s, %(superseded)s, %(wait_seconds)s,
       %(wait_buckets)s::bigint[]
FROM pgvector_sync.lease l WHERE l.id = %(lease)s
ON CONFLICT (pipeline_id, lane, batch) DO UPDATE SET
    stored = t.stored + excluded.stored, removed = t.removed + excluded.removed, absent = t.absent + excluded.absent,
    unchanged = t.unchanged + excluded.unchanged, superseded = t.superseded + excluded.superseded,
    wait_seconds = t.wait_seconds + excluded.wait_seconds,
    wait_buckets = pgvector_sync.add_each(t.wait_buckets, excluded.wait_buckets);

-- name: batches
-- The totals of each pipeline and lane, with the rows of the batches in flight.
SELECT p.name, t.lane, sum(t.batches)::bigint AS batches, sum(t.leases_lost)::bigint AS leases_lost,
       sum(t.stored)::bigint AS stored, sum(t.removed)::bigint AS removed, sum(t.absent)::bigint AS absent,
       sum(t.unchanged)::bigint AS unchanged, sum(t.superseded)::bigint AS superseded, sum(t.parked)::bigint AS parked,
       sum(t.released)::bigint AS released, sum(t.backed_off)::bigint AS backed_off,
       sum(t.wait_seconds)::float8 AS wait_seconds, pgvector_sync.sum_each(t.wait_buckets) AS wait_buckets,
       sum(t.claim_seconds)::float8 AS claim_seconds, pgvector_sync.sum_each(t.claim_buckets) AS claim_buckets
FROM (SELECT b.pipeline_id, b.lane, b.batches, b.leases_lost, b.stored, b.removed, b.absent, b.unchanged, b.superseded,
             b.parked, b.released, b.backed_off, b.wait_seconds, b.wait_buckets, b.claim_seconds, b.claim_buckets
      FROM pgvector_sync.batch_totals b
      UNION ALL
      SELECT l.pipeline_id, l.lane, 0, (l.lost_at IS NOT NULL)::int, l.stored, l.removed, l.absent, l.unchanged, l.superseded,
             l.parked, l.released, l.backed_off, l.wait_seconds, l.wait_buckets, 0, NULL
      FROM pgvector_sync.lease l WHERE l.claim_seconds IS NOT NULL OR l.lost_at IS NOT NULL) AS t
JOIN pgvector_sync.pipeline p ON p.id = t.pipeline_id
GROUP BY p.name, t.lane ORDER BY p.name, t.lane;

-- name: calls
-- Provider calls by outcome.
SELECT p.name, c.outcome, c.calls, c.seconds, c.buckets
FROM pgvector_sync.call_totals c JOIN pgvector_sync.pipeline p ON p.id = c.pipeline_id ORDER BY p.name, c.outcome;
