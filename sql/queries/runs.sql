-- Runs: backfills, bulk re-embeds and reconciliations.

-- name: start
-- The row is the request: whoever asks writes it, any worker carries it out. No row comes back where a reconciliation
-- of the pipeline is running already.
INSERT INTO pgvector_sync.run (pipeline_id, kind, options, rows_total)
VALUES (%(pipeline_id)s, %(kind)s, %(options)s, %(rows_total)s)
ON CONFLICT (pipeline_id) WHERE kind = 'reconcile' AND state = 'running' DO NOTHING
RETURNING id;

-- name: same
-- A run that was asked for the very same, and is running or began within the last `within`: asking twice doesn't do it
-- twice.
SELECT id FROM pgvector_sync.run
WHERE pipeline_id = %(pipeline_id)s AND kind = %(kind)s AND options = %(options)s
  AND (state = 'running' OR started_at > statement_timestamp() - %(within)s)
ORDER BY (state = 'running') DESC, id LIMIT 1;

-- name: add_keys
-- The keys of a run that was given a list.
INSERT INTO pgvector_sync.run_key (run_id, key) SELECT %(run_id)s, k.key FROM unnest(%(keys)s::jsonb[]) AS k (key)
ON CONFLICT DO NOTHING;

-- name: count_keys
-- How many there are; a key given twice counts once.
UPDATE pgvector_sync.run SET rows_total = (SELECT count(*) FROM pgvector_sync.run_key WHERE run_id = %(run_id)s)
WHERE id = %(run_id)s RETURNING rows_total;

-- name: key_page
-- The next keys of such a list.
SELECT key FROM pgvector_sync.run_key WHERE run_id = %(run_id)s AND (%(after)s::jsonb IS NULL OR key > %(after)s::jsonb)
ORDER BY key LIMIT %(limit)s;

-- name: forget_keys
-- A list that has served.
DELETE FROM pgvector_sync.run_key WHERE run_id = %(run_id)s;

-- name: supersede
-- A newer backfill of the same pipeline makes the older one pointless: it walks every row anyway.
UPDATE pgvector_sync.run SET state = 'cancelled', reason = 'superseded by a newer one', lease = NULL,
    finished_at = statement_timestamp()
WHERE pipeline_id = %(pipeline_id)s AND kind = %(kind)s AND state = 'running';

-- part: may_carry_out
-- A condition that somebody has typed runs with the rights of the role that carries the run out, so it
-- must have been typed by the owner of our schema or by a role that could act as this one.
(NOT r.options ? 'where' OR EXISTS (
    SELECT FROM pg_catalog.pg_roles q WHERE q.rolname = r.requested_by
    AND (pg_has_role(q.oid, quote_ident(current_user)::regrole, 'MEMBER')
         OR pg_has_role(q.oid, (SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid = 'pgvector_sync.run'::regclass),
                        'MEMBER'))))

-- name: due
-- Running runs that nobody carries out at the moment. Of a pipeline's re-embeds one after the other: the second must
-- not buy what the first is just buying.
SELECT r.id, r.kind, p.name AS pipeline FROM pgvector_sync.run r JOIN pgvector_sync.pipeline p ON p.id = r.pipeline_id
WHERE r.state = 'running' AND r.visible_at <= statement_timestamp() AND p.state NOT IN ('paused', 'removing') AND NOT p.problem_stops
  AND {may_carry_out}
  AND NOT EXISTS (SELECT FROM pgvector_sync.lease l WHERE l.id = r.lease AND l.lost_at IS NULL)
  AND NOT (r.kind = 'reembed' AND EXISTS (
      SELECT FROM pgvector_sync.run o WHERE o.pipeline_id = r.pipeline_id AND o.kind = 'reembed'
      AND o.state = 'running' AND o.id < r.id))
ORDER BY r.id;

-- name: claim
-- One worker per run.
WITH taken AS (
    UPDATE pgvector_sync.run r SET lease = %(lease)s
    FROM pgvector_sync.pipeline p
    WHERE r.id = %(id)s AND r.state = 'running' AND r.visible_at <= statement_timestamp() AND p.id = r.pipeline_id
      AND p.state NOT IN ('paused', 'removing') AND NOT p.problem_stops AND {may_carry_out}
      AND NOT EXISTS (SELECT FROM pgvector_sync.lease l WHERE l.id = r.lease AND l.lost_at IS NULL)
      AND NOT (r.kind = 'reembed' AND EXISTS (
          SELECT FROM pgvector_sync.run o WHERE o.pipeline_id = r.pipeline_id AND o.kind = 'reembed'
          AND o.state = 'running' AND o.id < r.id))
    RETURNING r.id, r.pipeline_id, r.kind, r.options, r.watermark, r.walked, r.counts, r.samples, r.started_at,
              p.name AS pipeline, p.spec_version, statement_timestamp() AS claimed_at
), held AS (
    INSERT INTO pgvector_sync.lease (id, pipeline_id, lane, holder, expires_at, ends_at)
    SELECT %(lease)s, pipeline_id, kind, %(holder)s, statement_timestamp() + %(expires_after)s,
           statement_timestamp() + %(ends_after)s
    FROM taken)
SELECT * FROM taken;

-- name: bulk_depth
-- How far a run is ahead of the workers, up to `limit`.
-- The order is that of the indexes, which the planner would pass over for the first rows of the table.
SELECT (SELECT count(*) FROM (
            SELECT FROM pgvector_sync.work
            WHERE pipeline_id = %(pipeline_id)s AND lane = 'bulk' AND lease IS NULL AND parked_at IS NULL
            ORDER BY visible_at LIMIT %(limit)s) AS waiting)
     + (SELECT count(*) FROM (
            SELECT FROM pgvector_sync.work
            WHERE pipeline_id = %(pipeline_id)s AND lane = 'bulk' AND lease IS NOT NULL
            ORDER BY lease LIMIT %(limit)s) AS leased) AS depth;

-- name: enqueue
-- A page of keys into the bulk lane. Rows that wait anyway are left alone: their content is read when they are
-- claimed. A dead letter is looked at again: under another spec its content is another. Where it must be paid for again,
-- a row that waits anyway learns that, and whoever holds it is superseded.
INSERT INTO pgvector_sync.work AS w (pipeline_id, key, lane, waiting_since, visible_at, run_id, force)
SELECT %(pipeline_id)s, k.key, 'bulk', statement_timestamp(), statement_timestamp(), %(run_id)s, %(force)s
FROM unnest(%(keys)s::jsonb[]) AS k (key)
ORDER BY k.key
ON CONFLICT (pipeline_id, key) DO UPDATE SET
    generation = w.generation + 1, parked_at = NULL, run_id = excluded.run_id, force = w.force OR excluded.force,
    lane = CASE WHEN w.parked_at IS NULL THEN w.lane ELSE 'bulk' END,
    waiting_since = CASE WHEN w.parked_at IS NULL THEN w.waiting_since ELSE excluded.waiting_since END,
    visible_at = CASE WHEN w.parked_at IS NULL THEN w.visible_at ELSE excluded.visible_at END
WHERE w.parked_at IS NOT NULL OR (excluded.force AND NOT w.force);

-- name: advance
-- The watermark moves in the transaction that enqueued the page, only for the holder of the lease, and only while the
-- pipeline is the one that the page was read for.
UPDATE pgvector_sync.run SET watermark = coalesce(%(watermark)s::jsonb, watermark), walked = %(walked)s,
    rows_seen = rows_seen + %(seen)s, rows_enqueued = rows_enqueued + %(enqueued)s,
    counts = coalesce(%(counts)s, counts), samples = coalesce(%(samples)s, samples)
WHERE id = %(id)s AND lease = %(lease)s AND state = 'running'
  AND EXISTS (SELECT FROM pgvector_sync.pipeline p WHERE p.id = pipeline_id AND p.spec_version = %(spec_version)s);

-- name: finish
-- Walked to the end, and no row of it waits any more.
UPDATE pgvector_sync.run SET state = 'finished', lease = NULL, finished_at = statement_timestamp()
WHERE id = %(id)s AND lease = %(lease)s AND state = 'running' AND walked
  AND NOT EXISTS (SELECT FROM pgvector_sync.work w WHERE w.run_id = %(id)s AND w.parked_at IS NULL);

-- name: fail
-- It can't go on, or must not, and says why.
UPDATE pgvector_sync.run SET state = 'failed', reason = %(reason)s, lease = NULL, finished_at = statement_timestamp()
WHERE id = %(id)s AND lease = %(lease)s AND state = 'running';

-- name: yield
-- Given back: due again after `delay`.
UPDATE pgvector_sync.run SET lease = NULL, visible_at = statement_timestamp() + %(delay)s
WHERE id = %(id)s AND lease = %(lease)s AND state = 'running';

-- name: cancel
-- Enqueues no more. A backfill can't be cancelled: the rows beyond its watermark would be neither fresh nor waiting (G1).
UPDATE pgvector_sync.run SET state = 'cancelled', reason = 'cancelled by ' || session_user, lease = NULL,
    finished_at = statement_timestamp()
WHERE id = %(id)s AND state = 'running' AND kind <> 'backfill';

-- name: spare
-- What a cancelled run wanted to be paid for again, and nobody is just buying, is only looked at.
UPDATE pgvector_sync.work SET force = false WHERE run_id = %(id)s AND force AND lease IS NULL AND parked_at IS NULL;

-- name: list
-- Newest first.
SELECT r.id, p.name AS pipeline, r.kind, r.state, r.reason, r.requested_by, r.options, r.rows_total, r.rows_seen,
       r.rows_enqueued, r.walked, r.counts, r.samples, r.started_at, r.finished_at,
       CASE WHEN r.state = 'running' THEN
           (SELECT count(*) FROM pgvector_sync.work w WHERE w.run_id = r.id AND w.parked_at IS NULL) ELSE 0 END AS waiting,
       (SELECT count(*) FROM pgvector_sync.work w WHERE w.run_id = r.id AND w.parked_at IS NOT NULL
        AND w.verdict = 'dead') AS dead
FROM pgvector_sync.run r JOIN pgvector_sync.pipeline p ON p.id = r.pipeline_id
WHERE (%(id)s::bigint IS NULL OR r.id = %(id)s) AND (%(pipeline)s::text IS NULL OR p.name = %(pipeline)s)
ORDER BY r.id DESC LIMIT %(limit)s;

-- name: forget
-- Runs that ended long ago; what reconciliations found stays in `drift`.
DELETE FROM pgvector_sync.run WHERE state <> 'running' AND finished_at < statement_timestamp() - %(older_than)s;
