-- Runs: backfills, bulk re-embeds and reconciliations.

-- name: start
-- Inserts a run. The row is the request, which any worker can carry out. Returns no row if a reconciliation of the pipeline
-- is already running.
INSERT INTO pgvector_sync.run (pipeline_id, kind, options, rows_total, traceparent)
VALUES (%(pipeline_id)s, %(kind)s, %(options)s, %(rows_total)s, %(traceparent)s)
ON CONFLICT (pipeline_id) WHERE kind = 'reconcile' AND state = 'running' DO NOTHING
RETURNING id;

-- name: identical
-- A run with an identical request that is running, or began within the last `within`, so that a repeated request doesn't
-- start a second run.
SELECT id FROM pgvector_sync.run
WHERE pipeline_id = %(pipeline_id)s AND kind = %(kind)s AND options = %(options)s
  AND (state = 'running' OR started_at > statement_timestamp() - %(within)s)
ORDER BY (state = 'running') DESC, id LIMIT 1;

-- name: add_keys
-- Adds keys to the list of a run.
INSERT INTO pgvector_sync.run_key (run_id, key) SELECT %(run_id)s, k.key FROM unnest(%(keys)s::jsonb[]) AS k (key)
ON CONFLICT DO NOTHING;

-- name: count_keys
-- Stores the number of keys in the list as the run's total.
UPDATE pgvector_sync.run SET rows_total = (SELECT count(*) FROM pgvector_sync.run_key WHERE run_id = %(run_id)s)
WHERE id = %(run_id)s RETURNING rows_total;

-- name: key_page
-- The next keys of a run's list.
SELECT key FROM pgvector_sync.run_key WHERE run_id = %(run_id)s AND (%(after)s::jsonb IS NULL OR key > %(after)s::jsonb)
ORDER BY key LIMIT %(limit)s;

-- name: forget_keys
-- Deletes the list of a run that has ended.
DELETE FROM pgvector_sync.run_key WHERE run_id = %(run_id)s;

-- name: supersede
-- Ends the running runs of a kind when a newer one starts that reads every row anyway.
UPDATE pgvector_sync.run SET state = 'cancelled', reason = 'superseded by a newer one', lease = NULL,
    finished_at = statement_timestamp()
WHERE pipeline_id = %(pipeline_id)s AND kind = %(kind)s AND state = 'running';

-- part: may_carry_out
-- Whether the current role may carry out a run. The condition of a request runs with its rights, so it must have been
-- requested by the owner of our schema, or by a role that could act as the current one.
(NOT r.options ? 'where' OR EXISTS (
    SELECT FROM pg_catalog.pg_roles q WHERE q.rolname = r.requested_by
    AND (pg_has_role(q.oid, quote_ident(current_user)::regrole, 'MEMBER')
         OR pg_has_role(q.oid, (SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid = 'pgvector_sync.run'::regclass),
                        'MEMBER'))))

-- name: due
-- Running runs that no worker is carrying out at the moment, first the one that has been due the longest: there may be room for
-- some of them only, and one that goes on is due again at once. The re-embeds of a pipeline run one after the other: the second
-- must not pay for what the first is paying for.
SELECT r.id, r.kind, p.name AS pipeline FROM pgvector_sync.run r JOIN pgvector_sync.pipeline p ON p.id = r.pipeline_id
WHERE r.state = 'running' AND r.visible_at <= statement_timestamp() AND p.state NOT IN ('paused', 'removing') AND NOT p.problem_stops
  AND {may_carry_out}
  AND NOT EXISTS (SELECT FROM pgvector_sync.lease l WHERE l.id = r.lease AND l.lost_at IS NULL)
  AND NOT (r.kind = 'reembed' AND EXISTS (
      SELECT FROM pgvector_sync.run o WHERE o.pipeline_id = r.pipeline_id AND o.kind = 'reembed'
      AND o.state = 'running' AND o.id < r.id))
ORDER BY r.visible_at, r.id;

-- name: reconciling
-- How many reconciliations workers are carrying out.
SELECT count(*) AS runs FROM pgvector_sync.run r JOIN pgvector_sync.lease l ON l.id = r.lease
WHERE r.kind = 'reconcile' AND r.state = 'running' AND l.lost_at IS NULL;

-- name: claim
-- Takes the lease of a run, so that only one worker carries it out. If that worker is killed, the run is due since now: others
-- come first.
WITH taken AS (
    UPDATE pgvector_sync.run r SET lease = %(lease)s, visible_at = statement_timestamp()
    FROM pgvector_sync.pipeline p
    WHERE r.id = %(id)s AND r.state = 'running' AND r.visible_at <= statement_timestamp() AND p.id = r.pipeline_id
      AND p.state NOT IN ('paused', 'removing') AND NOT p.problem_stops AND {may_carry_out}
      AND NOT EXISTS (SELECT FROM pgvector_sync.lease l WHERE l.id = r.lease AND l.lost_at IS NULL)
      AND NOT (r.kind = 'reembed' AND EXISTS (
          SELECT FROM pgvector_sync.run o WHERE o.pipeline_id = r.pipeline_id AND o.kind = 'reembed'
          AND o.state = 'running' AND o.id < r.id))
    RETURNING r.id, r.pipeline_id, r.kind, r.options, r.watermark, r.walked, r.counts, r.samples, r.started_at,
              r.traceparent, p.name AS pipeline, p.spec_version, statement_timestamp() AS claimed_at
), held AS (
    INSERT INTO pgvector_sync.lease (id, pipeline_id, lane, holder, expires_at, ends_at)
    SELECT %(lease)s, pipeline_id, kind, %(holder)s, statement_timestamp() + %(expires_after)s,
           statement_timestamp() + %(ends_after)s
    FROM taken)
SELECT * FROM taken;

-- name: note_trace
-- Stores the span in which a run is first carried out, if none has requested it.
UPDATE pgvector_sync.run SET traceparent = %(traceparent)s WHERE id = %(id)s AND lease = %(lease)s AND traceparent IS NULL;

-- name: traceparents
-- The spans that have caused these runs.
SELECT traceparent FROM pgvector_sync.run WHERE id = ANY (%(run_ids)s) AND traceparent IS NOT NULL ORDER BY id;

-- name: bulk_depth
-- How many rows of the bulk lane are waiting or in flight, each counted up to `limit`. ORDER BY makes the planner use the
-- indexes instead of reading the table.
SELECT (SELECT count(*) FROM (
            SELECT FROM pgvector_sync.work
            WHERE pipeline_id = %(pipeline_id)s AND lane = 'bulk' AND lease IS NULL AND parked_at IS NULL
            ORDER BY visible_at LIMIT %(limit)s) AS waiting)
     + (SELECT count(*) FROM (
            SELECT FROM pgvector_sync.work
            WHERE pipeline_id = %(pipeline_id)s AND lane = 'bulk' AND lease IS NOT NULL
            ORDER BY lease LIMIT %(limit)s) AS leased) AS depth;

-- name: enqueue
-- Enqueues a page of keys in the bulk lane. Rows that already wait aren't changed: their content is read when they are
-- claimed. Dead letters are retried, since with another spec their content differs. With `force`, a row that already waits is
-- marked too, and a batch that holds it is superseded.
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
-- Moves the watermark in the transaction that enqueues the page, only for the holder of the lease, and only if the pipeline
-- is unchanged since the page was read.
UPDATE pgvector_sync.run SET watermark = coalesce(%(watermark)s::jsonb, watermark), walked = %(walked)s,
    rows_seen = rows_seen + %(seen)s, rows_enqueued = rows_enqueued + %(enqueued)s,
    counts = coalesce(%(counts)s, counts), samples = coalesce(%(samples)s, samples)
WHERE id = %(id)s AND lease = %(lease)s AND state = 'running'
  AND EXISTS (SELECT FROM pgvector_sync.pipeline p WHERE p.id = pipeline_id AND p.spec_version = %(spec_version)s);

-- name: finish
-- Finishes a run that has reached the end, if none of its rows still waits.
UPDATE pgvector_sync.run SET state = 'finished', lease = NULL, finished_at = statement_timestamp()
WHERE id = %(id)s AND lease = %(lease)s AND state = 'running' AND walked
  AND NOT EXISTS (SELECT FROM pgvector_sync.work w WHERE w.run_id = %(id)s AND w.parked_at IS NULL);

-- name: fail
-- Fails a run, with the reason.
UPDATE pgvector_sync.run SET state = 'failed', reason = %(reason)s, lease = NULL, finished_at = statement_timestamp()
WHERE id = %(id)s AND lease = %(lease)s AND state = 'running';

-- name: yield
-- Releases a run: it is due again after `delay`.
UPDATE pgvector_sync.run SET lease = NULL, visible_at = statement_timestamp() + %(delay)s
WHERE id = %(id)s AND lease = %(lease)s AND state = 'running';

-- name: wake
-- Makes runs due that only waited for their last rows, if none of them still waits.
UPDATE pgvector_sync.run SET visible_at = statement_timestamp()
WHERE id IN (SELECT r.id FROM pgvector_sync.run r
             WHERE r.id = ANY (%(run_ids)s) AND r.state = 'running' AND r.walked AND r.visible_at > statement_timestamp()
               AND NOT EXISTS (SELECT FROM pgvector_sync.work w WHERE w.run_id = r.id AND w.parked_at IS NULL)
             FOR UPDATE SKIP LOCKED);

-- name: cancel
-- Cancels a run, which then enqueues no more rows. A backfill can't be cancelled: the rows beyond its watermark would be
-- neither fresh nor waiting (G1).
UPDATE pgvector_sync.run SET state = 'cancelled', reason = 'cancelled by ' || session_user, lease = NULL,
    finished_at = statement_timestamp()
WHERE id = %(id)s AND state = 'running' AND kind <> 'backfill';

-- name: clear_force
-- Rows of a cancelled run that no batch holds aren't paid for again, only compared.
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

-- name: running
-- The progress of the running runs. A row that was enqueued and still waits isn't done.
SELECT r.id, p.name AS pipeline, r.kind, r.rows_total, r.rows_seen, r.walked,
       (SELECT count(*) FROM pgvector_sync.work w WHERE w.run_id = r.id AND w.parked_at IS NULL) AS waiting,
       extract(epoch FROM statement_timestamp() - r.started_at)::float8 AS elapsed_seconds
FROM pgvector_sync.run r JOIN pgvector_sync.pipeline p ON p.id = r.pipeline_id
WHERE r.state = 'running' AND (%(pipeline)s::text IS NULL OR p.name = %(pipeline)s)
ORDER BY p.name, r.id;

-- name: forget
-- Deletes runs that ended long ago. What reconciliations found stays in `drift`.
DELETE FROM pgvector_sync.run WHERE state <> 'running' AND finished_at < statement_timestamp() - %(older_than)s;
