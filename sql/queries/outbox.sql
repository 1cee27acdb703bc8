-- From the outbox into work: the drain.

-- name: waits
-- Whether there is an event to be moved: without one nothing is locked, since that would use up a transaction id at every
-- look of an idle machine. On a server that is read-only the lock says so. For the statements that follow: before the
-- outbox is analyzed for the first time, the planner would read and sort all of it for every slice.
SELECT current_setting('transaction_read_only')::boolean OR (
           SELECT id FROM pgvector_sync.outbox WHERE id > %(after_id)s AND key IS NOT NULL AND error_class IS NULL
           ORDER BY id LIMIT 1) IS NOT NULL AS waits,
       set_config('enable_seqscan', 'off', true), set_config('enable_sort', 'off', true);

-- name: drain
-- Moves the oldest events into work, in key order, one work row a (pipeline, key). `after_id` is only a hint that
-- skips dead tuples; ids become visible out of order, so the caller also starts from the beginning now and then.
-- A transaction with `burst` events in the slice is a load: it waits in the bulk lane, so that the single changes
-- behind it don't. Live promotes bulk, never the reverse. Events of a key whose work row is locked, by a frozen worker
-- perhaps, stay in the outbox: nobody waits for them. The rows are locked before any event is deleted (OFFSET 0 and FOR
-- UPDATE: looked up key by key). Events are told by their place, since ids may repeat. Those whose key can't become
-- work, all at once, stay as dead letters, however many somebody has written.
WITH seen AS MATERIALIZED (
    SELECT ctid AS place, id, source_id, key FROM pgvector_sync.outbox
    WHERE id > %(after_id)s AND key IS NOT NULL AND error_class IS NULL
    ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), judged AS MATERIALIZED (
    SELECT seen.*, pgvector_sync.key_fault(seen.key, cardinality(s.key_columns)) AS fault
    FROM seen LEFT JOIN pgvector_sync.source s ON s.id = seen.source_id
), parked AS (
    UPDATE pgvector_sync.outbox o SET error_class = j.fault FROM judged j WHERE o.ctid = j.place AND j.fault IS NOT NULL
    RETURNING o.error_class
), blocked AS MATERIALIZED (
    SELECT DISTINCT k.source_id, k.key
    FROM (SELECT DISTINCT source_id, key FROM judged WHERE fault IS NULL) AS k
    JOIN pgvector_sync.pipeline p ON p.source_id = k.source_id AND p.state <> 'removing'
    CROSS JOIN LATERAL (SELECT FROM pgvector_sync.work w WHERE w.pipeline_id = p.id AND w.key = k.key OFFSET 0) AS there
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
        -- a leased row keeps its lease; one superseded again and again keeps its back-off
        visible_at = CASE WHEN w.lease IS NULL AND (w.superseded < 2 OR w.parked_at IS NOT NULL)
                          THEN least(w.visible_at, excluded.visible_at) ELSE w.visible_at END,
        -- what failed is known by its fingerprint; another content has attempts of its own
        attempts = CASE WHEN w.parked_at IS NOT NULL AND w.failed_fingerprint IS NOT NULL THEN 0 ELSE w.attempts END,
        parked_at = NULL,
        -- from here on it waits for itself, and holds up no run
        run_id = NULL
    RETURNING 1
)
SELECT (SELECT count(*) FROM event) AS events, (SELECT count(*) FROM moved) AS rows,
       (SELECT count(*) FROM seen) AS seen, (SELECT max(id) FROM seen) AS last_id,
       (SELECT count(*) FROM parked) AS parked, (SELECT array_agg(DISTINCT error_class) FROM parked) AS faults,
       (SELECT min(id) FROM judged WHERE fault IS NULL AND (source_id, key) IN (SELECT source_id, key FROM blocked))
           AS first_left;

-- name: lock_first
-- The event that a drain of one would take, held until commit.
SELECT id FROM pgvector_sync.outbox
WHERE id > %(after_id)s AND key IS NOT NULL AND error_class IS NULL
ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED;

-- name: park_event
-- The one event that can't become work though its key looks as if it could stays behind, and is shown as dead.
UPDATE pgvector_sync.outbox SET error_class = %(error_class)s WHERE id = %(id)s;

-- name: add_parked
-- The same for a key that a backfill has come upon, once.
INSERT INTO pgvector_sync.outbox (source_id, key, error_class)
SELECT %(source_id)s, %(key)s, %(error_class)s
WHERE NOT EXISTS (SELECT FROM pgvector_sync.outbox o
                  WHERE o.source_id = %(source_id)s AND o.key = %(key)s AND o.error_class IS NOT NULL);

-- name: sweeps
-- TRUNCATE events: each is a walk over the targets of its source.
SELECT o.id, o.xid::text AS xid, o.source_id FROM pgvector_sync.outbox o
WHERE o.key IS NULL AND o.error_class IS NULL ORDER BY o.id LIMIT 100;

-- name: add_sweep
-- Asks for one: vectors without a row go with the next drain.
INSERT INTO pgvector_sync.outbox (source_id, key) VALUES (%(source_id)s, NULL);

-- name: finish_sweep
-- The walk has reached the end of every target. An id alone may have been given twice.
DELETE FROM pgvector_sync.outbox o USING unnest(%(ids)s::bigint[], %(xids)s::xid8[]) AS done (id, xid)
WHERE o.id = done.id AND o.xid = done.xid AND o.key IS NULL AND o.error_class IS NULL;

-- name: oldest
-- How long the oldest event has waited for the drain; NULL where none does.
SELECT (SELECT clock_timestamp() - at FROM pgvector_sync.outbox WHERE error_class IS NULL ORDER BY id LIMIT 1) AS age;

-- name: enqueue
-- Rows to be processed again, by the function that applications may call. Each key is an array of its parts.
SELECT pgvector_sync.enqueue(%(pipeline)s, k.key) FROM unnest(%(keys)s::jsonb[]) AS k (key);
