-- The drain: moves events from the outbox into work.

-- name: waits
-- Whether there is an event to move. Without one nothing is locked, because a lock uses up a transaction id, even on an idle
-- machine. On a read-only server it returns true, so that the lock raises the error. It also disables two plans for the
-- statements that follow: before the outbox is first analyzed, the planner would read and sort all of it for every slice.
SELECT current_setting('transaction_read_only')::boolean OR (
           SELECT id FROM pgvector_sync.outbox WHERE id > %(after_id)s ORDER BY id LIMIT 1) IS NOT NULL AS waits,
       set_config('enable_seqscan', 'off', true), set_config('enable_sort', 'off', true);

-- name: drain
-- Moves the oldest events into work, in key order, as one work row per (pipeline, key).
-- `after_id` is only a hint that skips dead tuples: ids become visible out of order, so the caller also starts from the
-- beginning now and then. The events of a transaction with `burst` events in the slice go to the bulk lane, so that single
-- changes don't wait behind them. A live change moves a bulk row to the live lane, never the reverse. Events of a key whose
-- work row is locked, by a frozen worker for example, stay in the outbox, so that the drain doesn't wait for the lock. Rows are
-- locked before any event is deleted (OFFSET 0 and FOR UPDATE make the planner look up key by key). Events are identified by
-- ctid, since ids may repeat. Events whose key can't become work are parked as dead letters, all of them in one statement.
WITH seen AS MATERIALIZED (
    SELECT ctid AS place, id, source_id, key FROM pgvector_sync.outbox
    WHERE id > %(after_id)s ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), judged AS MATERIALIZED (
    SELECT seen.*, pgvector_sync.key_fault(seen.key, cardinality(s.key_columns)) AS fault
    FROM seen LEFT JOIN pgvector_sync.source s ON s.id = seen.source_id
), parked AS (
    INSERT INTO pgvector_sync.parked (source_id, key, error_class)
    SELECT source_id, key, fault FROM judged WHERE fault IS NOT NULL RETURNING error_class
), refused AS (
    DELETE FROM pgvector_sync.outbox WHERE ctid = ANY (ARRAY(SELECT place FROM judged WHERE fault IS NOT NULL))
), blocked AS MATERIALIZED (
    SELECT DISTINCT k.source_id, k.key
    FROM (SELECT DISTINCT source_id, key FROM judged WHERE fault IS NULL) AS k
    JOIN pgvector_sync.pipeline p ON p.source_id = k.source_id AND p.state <> 'removing'
    CROSS JOIN LATERAL (SELECT FROM pgvector_sync.work w WHERE w.pipeline_id = p.id AND w.key = k.key OFFSET 0) AS existing
    LEFT JOIN LATERAL (SELECT true AS ours FROM pgvector_sync.work w WHERE w.pipeline_id = p.id AND w.key = k.key
                       FOR UPDATE SKIP LOCKED) AS locked ON true
    WHERE locked.ours IS NULL
), event AS (
    DELETE FROM pgvector_sync.outbox
    WHERE ctid = ANY (ARRAY(SELECT place FROM judged WHERE fault IS NULL
                            AND (source_id, key) NOT IN (SELECT source_id, key FROM blocked)))
    RETURNING id, source_id, key, xid, at
), counted AS (
    SELECT source_id, key, at, count(*) OVER (PARTITION BY xid) >= %(burst)s AS burst FROM event
), moved AS (
    INSERT INTO pgvector_sync.work AS w (pipeline_id, key, lane, waiting_since, visible_at)
    SELECT p.id, e.key, CASE WHEN bool_and(e.burst) THEN 'bulk' ELSE 'live' END, least(min(e.at) FILTER (WHERE isfinite(e.at)), statement_timestamp()), statement_timestamp()
    FROM counted e JOIN pgvector_sync.pipeline p ON p.source_id = e.source_id AND p.state <> 'removing'
    GROUP BY p.id, e.key
    ORDER BY p.id, e.key
    ON CONFLICT (pipeline_id, key) DO UPDATE SET
        generation = w.generation + 1,
        lane = CASE WHEN excluded.lane = 'live' THEN 'live' ELSE w.lane END,
        waiting_since = CASE WHEN w.parked_at IS NULL THEN least(w.waiting_since, excluded.waiting_since)
                             ELSE excluded.waiting_since END,
        -- A leased row keeps its lease, and one superseded repeatedly keeps its back-off. One that begins to wait in this lane is
        -- due from now on: a search of the lane may start after its former time.
        visible_at = CASE WHEN w.lease IS NOT NULL OR (w.superseded >= 2 AND w.parked_at IS NULL) THEN w.visible_at
                          WHEN w.parked_at IS NOT NULL OR (w.lane = 'bulk' AND excluded.lane = 'live') THEN excluded.visible_at
                          ELSE least(w.visible_at, excluded.visible_at) END,
        -- attempts belong to content; failed content is recognized by its fingerprint
        attempts = CASE WHEN w.parked_at IS NOT NULL AND w.failed_fingerprint IS NOT NULL THEN 0 ELSE w.attempts END,
        parked_at = NULL,
        -- it no longer belongs to a run, which needn't wait for it
        run_id = NULL
    RETURNING 1
)
SELECT (SELECT count(*) FROM event) AS events, (SELECT count(*) FROM moved) AS rows,
       (SELECT count(*) FROM seen) AS seen, (SELECT max(id) FROM seen) AS last_id,
       (SELECT count(*) FROM parked) AS parked, (SELECT array_agg(DISTINCT error_class) FROM parked) AS faults,
       (SELECT min(id) FROM judged WHERE fault IS NULL AND (source_id, key) IN (SELECT source_id, key FROM blocked))
           AS first_left;

-- name: lock_first
-- Locks the event that a drain with `limit` 1 would move, until commit.
SELECT id FROM pgvector_sync.outbox
WHERE id > %(after_id)s ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED;

-- name: park_event
-- Parks a single event that can't become work although its key looks valid. It is shown as a dead letter.
WITH event AS (DELETE FROM pgvector_sync.outbox WHERE id = %(id)s RETURNING source_id, key)
INSERT INTO pgvector_sync.parked (source_id, key, error_class) SELECT source_id, key, %(error_class)s FROM event;

-- name: add_parked
-- Adds a parked event for a key that a backfill has read, unless there is one.
INSERT INTO pgvector_sync.parked (source_id, key, error_class)
SELECT %(source_id)s, %(key)s, %(error_class)s
WHERE NOT EXISTS (SELECT FROM pgvector_sync.parked o WHERE o.source_id = %(source_id)s AND o.key = %(key)s);

-- name: sweeps
-- TRUNCATE events. Each requires a sweep of the targets of its source.
SELECT s.source_id, s.xid::text AS xid, s.at FROM pgvector_sync.sweep s ORDER BY s.at LIMIT 100;

-- name: add_sweep
-- Requests a sweep: the next drain removes vectors without a row.
INSERT INTO pgvector_sync.sweep (source_id) VALUES (%(source_id)s);

-- name: finish_sweep
-- Deletes the events of a sweep that has reached the end of every target. Events restored from another cluster may have the
-- transaction id of one that came since.
DELETE FROM pgvector_sync.sweep s USING unnest(%(xids)s::xid8[], %(ats)s::timestamptz[]) AS done (xid, at)
WHERE s.source_id = %(source_id)s AND s.xid = done.xid AND s.at = done.at;

-- name: oldest
-- How long the oldest event has waited for the drain; NULL if there is none.
SELECT greatest((SELECT clock_timestamp() - at FROM pgvector_sync.outbox ORDER BY id LIMIT 1),
                (SELECT clock_timestamp() - min(at) FROM pgvector_sync.sweep)) AS age;

-- name: enqueue
-- Enqueues rows with the function that applications may call. Each key is an array of its parts.
SELECT pgvector_sync.enqueue(%(pipeline)s, k.key) FROM unnest(%(keys)s::jsonb[]) AS k (key);
