-- Builds of vector indexes. A build belongs to the server process that holds its advisory lock `lock_key`; every change of its
-- state requires that key, see docs/decisions/0090.

-- name: readable
-- Whether this role may read builds.
SELECT has_table_privilege('pgvector_sync.index_build', 'SELECT') AS readable;

-- name: request
-- Requests a build. None is added while another one of the pipeline is unfinished.
INSERT INTO pgvector_sync.index_build (pipeline_id, definition, window_begin, window_end, replace, declared, memory_bytes)
SELECT %(pipeline_id)s, %(definition)s::jsonb, %(window_begin)s::time, %(window_end)s::time, %(replace)s, %(declared)s, %(memory_bytes)s
ON CONFLICT (pipeline_id) WHERE state IN ('waiting', 'building', 'swapping') DO NOTHING
RETURNING id;

-- name: list
-- Builds, newest first, with what Postgres reports about their progress, or else what was last noted, which no longer holds once
-- the server process has ended. Progress of other roles is only visible with pg_read_all_stats. `unfinished`: only builds that
-- have something left to do. OFFSET 0 makes the planner look for the holder of a lock once per build.
SELECT b.id, p.name AS pipeline, b.state, b.reason, b.definition, b.window_begin, b.window_end, b.replace AS replaces_same, b.declared, b.memory_bytes, b.workers,
       b.requested_by, b.requested_at, b.attempts, b.lock_key, b.index_name, b.replaces, b.left_over,
       p.target_schema AS schema, p.target_table AS "table", b.visible_at <= statement_timestamp() AS due, statement_timestamp() AS now,
       b.started_at, b.ended_at, b.rows, b.bytes, b.parameters, b.pgvector, b.used_memory, b.changes,
       CASE WHEN h.pid IS NOT NULL THEN coalesce(g.phase, b.phase) END AS phase, b.phase_since,
       CASE WHEN g.pid IS NOT NULL THEN g.done WHEN h.pid IS NOT NULL THEN b.done_share END AS done_share, g.waits_for,
       h.pid IS NOT NULL AS held,
       EXISTS (SELECT FROM pgvector_sync.run r WHERE r.pipeline_id = b.pipeline_id AND r.kind = 'backfill' AND r.state = 'running')
           AS backfilling,
       coalesce((SELECT pg_has_role(t.relowner, 'USAGE') FROM pg_catalog.pg_class t WHERE t.oid = {target_oid}), true) AS may_build
FROM pgvector_sync.index_build b JOIN pgvector_sync.pipeline p ON p.id = b.pipeline_id
CROSS JOIN LATERAL (SELECT {holder} AS pid OFFSET 0) AS h
LEFT JOIN LATERAL (
    SELECT c.pid, c.phase, nullif(c.current_locker_pid, 0)::int AS waits_for,
           coalesce(c.blocks_done::float8 / nullif(c.blocks_total, 0), c.tuples_done::float8 / nullif(c.tuples_total, 0)) AS done
    FROM pg_catalog.pg_stat_progress_create_index c
    WHERE c.relid = {target_oid} AND c.pid = h.pid AND c.command = 'CREATE INDEX CONCURRENTLY'
) AS g ON b.state = 'building'
WHERE (%(id)s::bigint IS NULL OR b.id = %(id)s) AND (%(pipeline)s::text IS NULL OR p.name = %(pipeline)s)
  AND (NOT %(unfinished)s OR b.left_over OR b.state IN ('waiting', 'building', 'swapping'))
ORDER BY b.id DESC LIMIT %(limit)s;

-- part: target_oid
-- The target of the build's pipeline.
to_regclass(format('%%I.%%I', p.target_schema, p.target_table))

-- part: holder
-- The server process that holds the build's lock, if its role may build the index. Every role that can connect may take an
-- advisory lock, so those of others don't count.
(SELECT min(l.pid) FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
   AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
   AND (l.classid::bigint << 32) | l.objid::bigint = b.lock_key
   AND coalesce((SELECT pg_has_role(a.usesysid, t.relowner, 'MEMBER') FROM pg_catalog.pg_class t WHERE t.oid = {target_oid}), true))

-- name: hold
-- Takes an advisory lock until the session ends. Its key is new, so it is free.
SELECT pg_try_advisory_lock(%(lock_key)s::bigint) AS held;

-- name: let_go
-- Releases it.
SELECT pg_advisory_unlock(%(lock_key)s::bigint) AS held;

-- name: take
-- Takes over a build that no server process holds, for the session that holds the new key.
UPDATE pgvector_sync.index_build b SET lock_key = %(lock_key)s
FROM pgvector_sync.pipeline p
WHERE b.id = %(id)s AND p.id = b.pipeline_id AND b.lock_key IS NOT DISTINCT FROM %(known_key)s::bigint
  AND (b.left_over OR b.state IN ('waiting', 'building', 'swapping')) AND {holder} IS NULL;

-- name: start
-- Starts an attempt, under the name that the index has until it is complete.
UPDATE pgvector_sync.index_build b SET state = 'building', reason = NULL, attempts = attempts + 1, left_over = true,
    index_name = %(index_name)s, replaces = %(replaces)s, used_memory = %(used_memory)s, workers = %(parallel_workers)s,
    pgvector = %(pgvector)s, phase = NULL, phase_since = NULL, done_share = NULL, noted_at = NULL, started_at = statement_timestamp(),
    changes = (SELECT coalesce(sum(t.stored + t.removed), 0) FROM pgvector_sync.batch_totals t WHERE t.pipeline_id = b.pipeline_id)
            + (SELECT coalesce(sum(l.stored + l.removed), 0) FROM pgvector_sync.lease l WHERE l.pipeline_id = b.pipeline_id)
WHERE b.id = %(id)s AND b.lock_key = %(lock_key)s AND b.state = 'waiting';

-- name: note
-- Notes the progress, for roles that can't see it.
UPDATE pgvector_sync.index_build SET done_share = %(done_share)s, noted_at = statement_timestamp(), phase = %(phase)s,
    phase_since = CASE WHEN phase IS DISTINCT FROM %(phase)s::text THEN statement_timestamp() ELSE phase_since END
WHERE id = %(id)s AND lock_key = %(lock_key)s AND state = 'building';

-- name: retry
-- An attempt has failed: the build is due again later. `workers` replaces the number of parallel workers, if there is one.
UPDATE pgvector_sync.index_build SET state = 'waiting', reason = %(reason)s, visible_at = statement_timestamp() + %(delay)s,
    left_over = false, workers = coalesce(%(parallel_workers)s, workers), phase = NULL, done_share = NULL
WHERE id = %(id)s AND lock_key = %(lock_key)s AND state = 'building';

-- name: wait
-- Says why a build doesn't start yet.
UPDATE pgvector_sync.index_build SET reason = %(reason)s
WHERE id = %(id)s AND state = 'waiting' AND reason IS DISTINCT FROM %(reason)s::text;

-- name: complete
-- The index is valid under its preliminary name: what it replaces can be dropped.
UPDATE pgvector_sync.index_build b SET state = 'swapping', reason = NULL, phase = NULL, done_share = NULL,
    rows = greatest(c.reltuples, 0)::bigint, bytes = pg_relation_size(i.oid), parameters = coalesce(i.reloptions, '{}')
FROM pg_catalog.pg_class i JOIN pg_catalog.pg_index x ON x.indexrelid = i.oid JOIN pg_catalog.pg_class c ON c.oid = x.indrelid
WHERE b.id = %(id)s AND b.lock_key = %(lock_key)s AND b.state = 'building' AND i.oid = %(oid)s AND x.indisvalid;

-- name: finish
-- The index has its final name.
UPDATE pgvector_sync.index_build SET state = 'done', reason = NULL, index_name = %(index_name)s, left_over = false,
    ended_at = statement_timestamp()
WHERE id = %(id)s AND lock_key = %(lock_key)s AND state = 'swapping';

-- name: fail
-- Gives a build up. Nothing of it is left.
UPDATE pgvector_sync.index_build SET state = 'failed', reason = %(reason)s, left_over = false, phase = NULL, done_share = NULL,
    ended_at = statement_timestamp()
WHERE id = %(id)s AND lock_key = %(lock_key)s AND state IN ('waiting', 'building', 'swapping');

-- name: cancel
-- Cancels the unfinished build of a pipeline. Once the index is complete, it is too late.
UPDATE pgvector_sync.index_build b SET state = 'cancelled', reason = 'cancelled by ' || session_user, ended_at = statement_timestamp(),
    phase = NULL, done_share = NULL
FROM pgvector_sync.pipeline p
WHERE p.id = b.pipeline_id AND p.name = %(pipeline)s AND b.state IN ('waiting', 'building')
RETURNING b.id;

-- name: stop
-- Cancels the statement of the server process that holds a build which has ended, if this role may.
SELECT coalesce(bool_or(pg_cancel_backend(h.pid)), false) AS stopped
FROM (SELECT {holder} AS pid FROM pgvector_sync.index_build b JOIN pgvector_sync.pipeline p ON p.id = b.pipeline_id
      WHERE b.id = %(id)s AND b.state NOT IN ('waiting', 'building', 'swapping')) AS h
JOIN pg_catalog.pg_stat_activity a ON a.pid = h.pid AND pg_has_role(a.usesysid, 'MEMBER');

-- name: cleaned
-- Nothing of a cancelled build is left.
UPDATE pgvector_sync.index_build SET left_over = false
WHERE id = %(id)s AND lock_key = %(lock_key)s AND state NOT IN ('waiting', 'building', 'swapping') AND left_over;

-- name: built
-- The indexes that were built for a pipeline.
SELECT DISTINCT b.index_name AS name FROM pgvector_sync.index_build b WHERE b.pipeline_id = %(pipeline_id)s AND b.state = 'done';

-- name: declared
-- Pipelines whose file declares an index, and whose backfill and builds have ended, with the last build that the file has requested.
SELECT p.name AS pipeline, b.state, b.definition
FROM pgvector_sync.pipeline p
LEFT JOIN LATERAL (
    SELECT l.state, l.definition FROM pgvector_sync.index_build l WHERE l.pipeline_id = p.id AND l.declared ORDER BY l.id DESC LIMIT 1
) AS b ON true
WHERE p.vector_index ? 'method' AND p.state <> 'removing'
  AND NOT EXISTS (SELECT FROM pgvector_sync.run r WHERE r.pipeline_id = p.id AND r.kind = 'backfill' AND r.state = 'running')
  AND NOT EXISTS (
      SELECT FROM pgvector_sync.index_build u WHERE u.pipeline_id = p.id AND u.state IN ('waiting', 'building', 'swapping'))
ORDER BY p.id;

-- name: forget
-- Deletes builds that ended long ago, except the last finished one of each index.
DELETE FROM pgvector_sync.index_build b
WHERE b.ended_at < statement_timestamp() - %(older_than)s AND NOT b.left_over
  AND NOT (b.state = 'done' AND NOT EXISTS (
      SELECT FROM pgvector_sync.index_build n
      WHERE n.pipeline_id = b.pipeline_id AND n.index_name = b.index_name AND n.state = 'done' AND n.id > b.id))
  AND EXISTS (SELECT FROM pgvector_sync.index_build n WHERE n.pipeline_id = b.pipeline_id AND n.declared = b.declared AND n.id > b.id);
