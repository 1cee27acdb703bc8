-- Claims, and how they end. Times are the database's statement_timestamp().

-- name: held
-- The number of a pipeline's batches in flight, in both lanes, and whether a lease of the pipeline is lost. The lanes are listed
-- because the index begins with them; OFFSET 0 makes the planner look up lease by lease.
SELECT count(*) FILTER (WHERE l.lost_at IS NULL AND EXISTS (
           SELECT FROM pgvector_sync.work w
           WHERE w.pipeline_id = %(pipeline_id)s AND w.lane IN ('live', 'bulk') AND w.lease = l.id OFFSET 0)) AS batches,
       count(l.lost_at) > 0 AS lost
FROM pgvector_sync.lease l WHERE l.pipeline_id = %(pipeline_id)s;

-- name: claim
-- Takes due rows without a lease, of those that are due since `due_since` or later. The attempt counts from here, and is refunded
-- if the row wasn't at fault. `due_from` is since when the first of them is due. If there are none, it is now, in a row without
-- a key. `taken` finds the rows by their place, which is quicker than by key. A row that has moved since the statement began is
-- left to the next claim, and if all of them have, there is no lease.
WITH due AS MATERIALIZED (
    SELECT ctid FROM pgvector_sync.work
    WHERE pipeline_id = %(pipeline_id)s AND lane = %(lane)s AND parked_at IS NULL AND lease IS NULL
      AND visible_at >= to_timestamp(%(due_since)s) AND visible_at <= statement_timestamp()
    ORDER BY visible_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE pgvector_sync.work w SET lease = %(lease)s, attempts = w.attempts + 1
    FROM due WHERE w.ctid = due.ctid
    RETURNING w.key, w.generation, w.attempts, w.force, w.verdict, w.failed_fingerprint, w.error_class, w.error_message,
              w.run_id, w.visible_at
), held AS (
    INSERT INTO pgvector_sync.lease (id, pipeline_id, lane, holder, expires_at, ends_at, claim_seconds)
    SELECT %(lease)s, %(pipeline_id)s, %(lane)s, %(holder)s, statement_timestamp() + %(expires_after)s,
           statement_timestamp() + %(ends_after)s, greatest(0, extract(epoch FROM clock_timestamp() - transaction_timestamp()))
    WHERE (SELECT count(*) FROM taken) > 0  -- not EXISTS, so that all rows were found when the time is taken
)
SELECT key, generation, attempts, force, verdict, failed_fingerprint, error_class, error_message, run_id,
       date_part('epoch', coalesce(min(visible_at) OVER (), statement_timestamp())) AS due_from
FROM (SELECT) AS always LEFT JOIN taken ON true;

-- name: claim_expired
-- Takes rows whose lease is lost, fewer with every attempt (256, 64, 16, 4, 1 for five): one of them may have killed the
-- worker, and on its last attempt it is alone. The comparison with '{}' spares Postgres 16 reading all rows in flight while no
-- lease is lost, until the table is analyzed for the first time.
WITH lost AS MATERIALIZED (
    SELECT ARRAY(SELECT id FROM pgvector_sync.lease WHERE pipeline_id = %(pipeline_id)s AND lost_at IS NOT NULL) AS ids
), tried AS MATERIALIZED (
    SELECT max(attempts) AS attempts FROM pgvector_sync.work
    WHERE pipeline_id = %(pipeline_id)s AND lane = %(lane)s AND lease = ANY ((SELECT ids FROM lost)::uuid[])
      AND attempts < %(max_attempts)s AND (SELECT ids <> '{}' FROM lost)
), due AS MATERIALIZED (
    SELECT w.pipeline_id, w.key FROM pgvector_sync.work w
    WHERE w.pipeline_id = %(pipeline_id)s AND w.lane = %(lane)s AND w.lease = ANY ((SELECT ids FROM lost)::uuid[])
      AND w.attempts = (SELECT attempts FROM tried) AND (SELECT ids <> '{}' FROM lost)
    ORDER BY w.visible_at
    LIMIT (SELECT ceil(power(%(limit)s::float8,
                             greatest(%(max_attempts)s - attempts - 1, 0)::float8 / greatest(%(max_attempts)s - 1, 1)))
           FROM tried)
    FOR UPDATE SKIP LOCKED
), held AS (
    INSERT INTO pgvector_sync.lease (id, pipeline_id, lane, holder, expires_at, ends_at, claim_seconds)
    SELECT %(lease)s, %(pipeline_id)s, %(lane)s, %(holder)s, statement_timestamp() + %(expires_after)s,
           statement_timestamp() + %(ends_after)s, greatest(0, extract(epoch FROM clock_timestamp() - transaction_timestamp()))
    WHERE (SELECT count(*) FROM due) > 0)
UPDATE pgvector_sync.work w SET lease = %(lease)s, attempts = w.attempts + 1
FROM due WHERE w.pipeline_id = due.pipeline_id AND w.key = due.key
RETURNING w.key, w.generation, w.attempts, w.force, w.verdict, w.failed_fingerprint, w.error_class, w.error_message, w.run_id;

-- name: park_crashed
-- Parks rows whose lease was lost on their last attempt, when each was alone in its batch. EXISTS: see `claim_expired`. They
-- are counted in the totals, since they have no lease any more.
WITH parked AS (
    UPDATE pgvector_sync.work
    SET parked_at = statement_timestamp(), verdict = 'dead', lease = NULL,
        failed_fingerprint = attempted_fingerprint, error_class = 'worker_crashed',
        error_message = 'the worker died or ran out of time on this row, on every attempt'
    WHERE pipeline_id = %(pipeline_id)s AND lane = %(lane)s AND attempts >= %(max_attempts)s
      AND EXISTS (SELECT FROM pgvector_sync.lease WHERE pipeline_id = %(pipeline_id)s AND lost_at IS NOT NULL)
      AND lease = ANY (ARRAY(SELECT id FROM pgvector_sync.lease WHERE pipeline_id = %(pipeline_id)s AND lost_at IS NOT NULL))
    RETURNING key
), counted AS (
    INSERT INTO pgvector_sync.batch_totals AS t (pipeline_id, lane, parked)
    SELECT %(pipeline_id)s, %(lane)s, count(*) FROM parked HAVING count(*) > 0
    ON CONFLICT (pipeline_id, lane, batch) DO UPDATE SET parked = t.parked + excluded.parked)
SELECT count(*) AS rows FROM parked;

-- name: note_attempt
-- Stores, from the second attempt on, which content is about to be embedded. Attempts belong to content, so new content starts
-- at one. A different fingerprint without an event since isn't new content: the expression is unsteady.
UPDATE pgvector_sync.work w
SET attempts = CASE WHEN w.attempted_fingerprint <> a.fingerprint AND w.attempted_generation <> w.generation
                    THEN 1 ELSE w.attempts END,
    attempted_fingerprint = a.fingerprint, attempted_generation = w.generation
FROM unnest(%(keys)s::jsonb[], %(fingerprints)s::bytea[]) AS a (key, fingerprint)
WHERE w.pipeline_id = %(pipeline_id)s AND w.key = a.key AND w.lease = %(lease)s
RETURNING w.key, w.attempts;

-- name: lock_claimed
-- Locks the claimed rows, unless the lease is lost, and tells their places, which stay the same until we commit. A row that isn't
-- returned was taken, deleted, or is locked by another session. The caller compares the generation with the claimed one (for a
-- join here, the planner would pair all leased rows with all keys). If the lease is lost after this, the rows are still locked
-- until we commit.
SELECT key, generation, ctid FROM pgvector_sync.work
WHERE pipeline_id = %(pipeline_id)s AND key = ANY (%(keys)s::jsonb[]) AND lease = %(lease)s
  AND EXISTS (SELECT FROM pgvector_sync.lease l WHERE l.id = %(lease)s AND l.lost_at IS NULL)
FOR UPDATE SKIP LOCKED;

-- name: ack
-- Acknowledges rows by their places, and counts them in the lease, with the time that they waited. This transaction has locked
-- them, so the number of rows must match. If another session has locked the lease, the caller counts them elsewhere: rows that
-- were paid for can't wait for a counter.
WITH acknowledged AS (
    DELETE FROM pgvector_sync.work
    WHERE ctid = ANY (%(places)s::tid[]) AND pipeline_id = %(pipeline_id)s AND lease = %(lease)s
    RETURNING greatest(0, extract(epoch FROM statement_timestamp() - waiting_since)) AS seconds
), waited AS (
    SELECT count(*) AS rows, coalesce(sum(seconds), 0) AS seconds, ARRAY[{wait_buckets}] AS buckets FROM acknowledged
), counted AS (
    UPDATE pgvector_sync.lease l
    SET stored = l.stored + %(stored)s, removed = l.removed + %(removed)s, absent = l.absent + %(absent)s,
        unchanged = l.unchanged + %(unchanged)s, wait_seconds = l.wait_seconds + waited.seconds,
        wait_buckets = pgvector_sync.add_each(l.wait_buckets, waited.buckets)
    FROM waited WHERE l.id = (SELECT id FROM pgvector_sync.lease WHERE id = %(lease)s FOR UPDATE SKIP LOCKED)
    RETURNING l.id)
SELECT rows, seconds, buckets, EXISTS (SELECT FROM counted) AS counted FROM waited;

-- name: release
-- Releases rows, with the attempt refunded or not. They are due at once, or after `delay`.
WITH released AS (
    UPDATE pgvector_sync.work
    SET lease = NULL, attempts = CASE WHEN %(refund)s THEN greatest(attempts - 1, 0) ELSE attempts END,
        visible_at = statement_timestamp() + %(delay)s
    WHERE pipeline_id = %(pipeline_id)s AND key = ANY (%(keys)s::jsonb[]) AND lease = %(lease)s
    RETURNING key
), counted AS (
    UPDATE pgvector_sync.lease SET released = released + (SELECT count(*) FROM released)
    WHERE id = %(lease)s AND EXISTS (SELECT FROM released))
SELECT count(*) AS rows FROM released;

-- name: release_superseded
-- Releases rows whose content changed while it was being embedded. The first time they are due at once, then after
-- `backoff_first`, doubling up to `backoff_longest`: otherwise a row that changes faster than the provider answers would cost
-- money forever. The attempt isn't refunded if the event of the change hasn't arrived: if none does, the expression is unsteady.
-- If the lease is lost, the rows are left to the next claim, which counts the attempt, since it may have been paid for. As to
-- `counted`, see `ack`.
WITH released AS (
    UPDATE pgvector_sync.work
    SET lease = NULL, attempts = CASE WHEN %(refund)s THEN greatest(attempts - 1, 0) ELSE attempts END,
        attempted_fingerprint = CASE WHEN %(refund)s THEN attempted_fingerprint ELSE '' END,
        attempted_generation = CASE WHEN %(refund)s THEN attempted_generation ELSE generation END,
        superseded = least(superseded + 1, 30000),
        visible_at = statement_timestamp() + CASE WHEN superseded = 0 THEN interval '0'
            ELSE least(%(backoff_first)s * power(2, least(superseded - 1, 20)), %(backoff_longest)s) END
    WHERE pipeline_id = %(pipeline_id)s AND key = ANY (%(keys)s::jsonb[]) AND lease = %(lease)s
      AND EXISTS (SELECT FROM pgvector_sync.lease l WHERE l.id = %(lease)s AND l.lost_at IS NULL)
    RETURNING key
), counted AS (
    UPDATE pgvector_sync.lease SET superseded = superseded + (SELECT count(*) FROM released)
    WHERE id = (SELECT id FROM pgvector_sync.lease WHERE id = %(lease)s FOR UPDATE SKIP LOCKED)
    RETURNING id)
SELECT count(*) AS rows, EXISTS (SELECT FROM counted) AS counted FROM released;

-- name: back_off
-- Releases rows after a failed attempt, which is used up. The back-off doubles up to `backoff_longest`, with a jitter of 50 %.
WITH released AS (
    UPDATE pgvector_sync.work
    SET lease = NULL, error_class = %(error_class)s, error_message = %(error_message)s,
        visible_at = statement_timestamp() + (0.5 + random())
            * least(%(backoff_first)s * power(2, least(attempts - 1, 20)), %(backoff_longest)s)
    WHERE pipeline_id = %(pipeline_id)s AND key = ANY (%(keys)s::jsonb[]) AND lease = %(lease)s
      AND attempts < %(max_attempts)s
    RETURNING key
), counted AS (
    UPDATE pgvector_sync.lease SET backed_off = backed_off + (SELECT count(*) FROM released)
    WHERE id = %(lease)s AND EXISTS (SELECT FROM released))
SELECT count(*) AS rows FROM released;

-- name: park
-- Parks dead letters, if their generation is the claimed one. A fingerprint that differs from `failed_fingerprint` revives one.
WITH parked AS (
    UPDATE pgvector_sync.work w
    SET parked_at = statement_timestamp(), verdict = coalesce(%(verdict)s, 'dead'), lease = NULL,
        failed_fingerprint = p.fingerprint, error_class = %(error_class)s, error_message = %(error_message)s
    FROM unnest(%(keys)s::jsonb[], %(generations)s::bigint[], %(fingerprints)s::bytea[]) AS p (key, generation, fingerprint)
    WHERE w.pipeline_id = %(pipeline_id)s AND w.key = p.key AND w.lease = %(lease)s AND w.generation = p.generation
    RETURNING w.key
), counted AS (
    UPDATE pgvector_sync.lease SET parked = parked + (SELECT count(*) FROM parked)
    WHERE id = %(lease)s AND EXISTS (SELECT FROM parked))
SELECT key FROM parked;

-- part: may_call
-- A condition of `due` and of `poll.look`: pipeline p may call its provider for rows of lane.lane. All names and operators are
-- qualified, because a look runs with the search_path of the database's owner.
(p.state OPERATOR(pg_catalog.=) 'active'
 OR (p.state OPERATOR(pg_catalog.=) ANY (ARRAY['cooling_down', 'misconfigured'])
     AND p.retry_at OPERATOR(pg_catalog.<=) pg_catalog.statement_timestamp()))
  AND NOT p.problem_stops
  -- the bulk lane has spent today's tokens
  AND (lane.lane OPERATOR(pg_catalog.=) 'bulk' AND p.tokens_per_day OPERATOR(pg_catalog.<=) (
      SELECT coalesce(pg_catalog.sum(u.tokens), 0) FROM pgvector_sync.usage u
      WHERE u.pipeline_id OPERATOR(pg_catalog.=) p.id
        AND u.day OPERATOR(pg_catalog.=)
            (pg_catalog.statement_timestamp() AT TIME ZONE 'UTC')::pg_catalog.date)) IS NOT TRUE

-- part: hints
-- A part of the FROM of `due` and `poll.look`: for lane.lane of pipeline p, where the search for due rows starts.
unnest(%(hint_pipelines)s::pg_catalog.int4[], %(hint_lanes)s::pg_catalog.text[], %(hint_since)s::pg_catalog.float8[])
    AS hint (pipeline_id, lane, since)
    ON hint.pipeline_id OPERATOR(pg_catalog.=) p.id AND hint.lane OPERATOR(pg_catalog.=) lane.lane

-- part: from_hint
-- A condition of both: row w of work isn't due since before the hint.
w.visible_at OPERATOR(pg_catalog.>=) pg_catalog.to_timestamp(coalesce(hint.since, '-infinity'))

-- name: due
-- For each pipeline that may call its provider: the rows due in each lane, up to `limit`, since when the first of them is due
-- (now, if there are none), and the batches in flight. A pipeline in cool-down may send one probe, from `retry_at` on.
SELECT p.id, p.name, p.state, p.batch_size, p.provider, p.model, lane.lane,
       (SELECT r.dialect FROM pgvector_sync.provider r WHERE r.name = p.provider) AS dialect,
       (SELECT k.parallel FROM pgvector_sync.learned k WHERE k.provider = p.provider AND k.model = p.model) AS parallel,
       date_part('epoch', coalesce(fresh.first, statement_timestamp())) AS due_from,
       fresh.rows
       + (SELECT count(*) FROM pgvector_sync.work w
          WHERE EXISTS (SELECT FROM pgvector_sync.lease l WHERE l.pipeline_id = p.id AND l.lost_at IS NOT NULL)
            AND w.pipeline_id = p.id AND w.lane = lane.lane AND w.lease = ANY (ARRAY(
              SELECT l.id FROM pgvector_sync.lease l WHERE l.pipeline_id = p.id AND l.lost_at IS NOT NULL))) AS due,
       (SELECT count(*) FROM pgvector_sync.lease l
        WHERE l.pipeline_id = p.id AND l.lost_at IS NULL AND EXISTS (
            SELECT FROM pgvector_sync.work w
            WHERE w.pipeline_id = p.id AND w.lane IN ('live', 'bulk') AND w.lease = l.id OFFSET 0)) AS in_flight
FROM pgvector_sync.pipeline p CROSS JOIN (VALUES (1, 'live'), (2, 'bulk')) AS lane (rank, lane)
LEFT JOIN {hints}
CROSS JOIN LATERAL (
    SELECT count(*) AS rows, min(each.visible_at) AS first FROM (
        SELECT w.visible_at FROM pgvector_sync.work w
        WHERE w.pipeline_id = p.id AND w.lane = lane.lane AND w.lease IS NULL AND w.parked_at IS NULL
          AND {from_hint} AND w.visible_at <= statement_timestamp()
        ORDER BY w.visible_at LIMIT %(limit)s) AS each) AS fresh
WHERE {may_call}
ORDER BY lane.rank, p.id;
