-- Runs: fills now, bulk re-embeds and reconciliations later.

-- name: start
-- The row is the request: whoever asks writes it, any worker carries it out.
INSERT INTO pgvector_sync.run (pipeline_id, kind, rows_total) VALUES (%(pipeline_id)s, %(kind)s, %(rows_total)s)
RETURNING id;

-- name: supersede
-- A newer fill of the same pipeline makes the older one pointless: it walks every row anyway.
UPDATE pgvector_sync.run SET state = 'cancelled', reason = 'superseded by a newer one', lease = NULL,
    finished_at = statement_timestamp()
WHERE pipeline_id = %(pipeline_id)s AND kind = %(kind)s AND state = 'running';

-- name: due
-- Running runs that nobody carries out at the moment.
SELECT r.id, p.name AS pipeline FROM pgvector_sync.run r JOIN pgvector_sync.pipeline p ON p.id = r.pipeline_id
WHERE r.state = 'running' AND r.visible_at <= statement_timestamp() AND p.state NOT IN ('paused', 'removing')
ORDER BY r.id;

-- name: claim
-- One worker a run.
UPDATE pgvector_sync.run r SET lease = %(lease)s, visible_at = statement_timestamp() + %(lease_for)s
FROM pgvector_sync.pipeline p
WHERE r.id = %(id)s AND r.state = 'running' AND r.visible_at <= statement_timestamp() AND p.id = r.pipeline_id
  AND p.state NOT IN ('paused', 'removing')
RETURNING r.id, r.kind, r.watermark, r.walked, p.name AS pipeline;

-- name: bulk_depth
-- How far the fill is ahead of the workers, up to `limit`.
-- The order is that of the indexes, which the planner would pass over for the first rows of the table.
SELECT (SELECT count(*) FROM (
            SELECT FROM pgvector_sync.work
            WHERE pipeline_id = %(pipeline_id)s AND lane = 'bulk' AND lease IS NULL AND parked_at IS NULL
            ORDER BY visible_at LIMIT %(limit)s) AS waiting)
     + (SELECT count(*) FROM (
            SELECT FROM pgvector_sync.work
            WHERE pipeline_id = %(pipeline_id)s AND lane = 'bulk' AND lease IS NOT NULL
            ORDER BY visible_at LIMIT %(limit)s) AS leased) AS depth;

-- name: enqueue
-- A page of keys into the bulk lane. Rows that wait anyway are left alone: their content is read when they are
-- claimed. A dead letter is looked at again: under another spec its content is another.
INSERT INTO pgvector_sync.work AS w (pipeline_id, key, lane, waiting_since, visible_at, run_id)
SELECT %(pipeline_id)s, k.key, 'bulk', statement_timestamp(), statement_timestamp(), %(run_id)s
FROM unnest(%(keys)s::jsonb[]) AS k (key)
ORDER BY k.key
ON CONFLICT (pipeline_id, key) DO UPDATE SET
    generation = w.generation + 1, parked_at = NULL, lane = 'bulk', run_id = excluded.run_id,
    waiting_since = excluded.waiting_since, visible_at = excluded.visible_at
WHERE w.parked_at IS NOT NULL;

-- name: advance
-- The watermark moves in the transaction that enqueued the page, and only for the holder of the lease.
UPDATE pgvector_sync.run SET watermark = coalesce(%(watermark)s::jsonb, watermark), walked = %(walked)s,
    rows_seen = rows_seen + %(seen)s, rows_enqueued = rows_enqueued + %(enqueued)s,
    visible_at = statement_timestamp() + %(lease_for)s
WHERE id = %(id)s AND lease = %(lease)s AND state = 'running';

-- name: finish
-- Walked to the end, and no row of it waits any more.
UPDATE pgvector_sync.run SET state = 'finished', lease = NULL, finished_at = statement_timestamp()
WHERE id = %(id)s AND lease = %(lease)s AND state = 'running' AND walked
  AND NOT EXISTS (SELECT FROM pgvector_sync.work w WHERE w.run_id = %(id)s AND w.parked_at IS NULL);

-- name: yield
-- Given back: due again after `delay`.
UPDATE pgvector_sync.run SET lease = NULL, visible_at = statement_timestamp() + %(delay)s
WHERE id = %(id)s AND lease = %(lease)s AND state = 'running';
