-- The schema watch: what each pipeline needs, and what exists. It reads the catalog and our own tables.

-- name: facts
-- One row per pipeline: its source and target as they are now, and our triggers on whatever table.
SELECT p.id, p.name, p.state, p.problem, p.problem_stops, p.recheck, p.read_columns, p.needs, p.target_schema, p.target_table,
       p.vector_type, p.dimensions, s.id AS source_id, s.schema_name, s.table_name, s.key_columns, s.key_types,
       s.capture_replicated, source_.oid AS source_oid, source_.kind AS source_kind, source_.owner AS source_owner,
       coalesce(source_.columns, '[]') AS columns, coalesce(source_.keyed, false) AS keyed,
       coalesce(source_.partitions, '[]') AS partitions, coalesce(installed.triggers, '[]') AS triggers,
       target_.stranger, target_.oid AS target_oid, coalesce(target_.columns, '{{}}') AS target_columns,
       EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extname = 'vector') AS vector_installed,
       current_setting('temp_file_limit') <> '-1' AS spill_limited,
       -- writes whose key couldn't be read, if no deep reconciliation has begun since
       EXISTS (SELECT FROM pgvector_sync.parked o WHERE o.source_id = s.id AND o.error_class = 'key_unreadable'
               AND NOT EXISTS (SELECT FROM pgvector_sync.run r WHERE r.pipeline_id = p.id AND {covers})) AS unread
FROM pgvector_sync.pipeline p JOIN pgvector_sync.source s ON s.id = p.source_id
LEFT JOIN LATERAL (
    SELECT c.oid, c.relkind::text AS kind, pg_get_userbyid(c.relowner)::text AS owner,
           (SELECT jsonb_agg(jsonb_build_array(a.attname, format_type(a.atttypid, a.atttypmod),
                                               a.attlen = -1 AND a.attstorage <> 'p',
                                               coalesce(l.collisdeterministic, true)) ORDER BY a.attnum)
            FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
           EXISTS (SELECT FROM pg_catalog.pg_index i
                   WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
                     AND i.indpred IS NULL AND i.indexprs IS NULL
                     AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FILTER (WHERE a.attnotnull)
                          FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, position)
                          JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
                          WHERE k.position <= i.indnkeyatts)
                         = (SELECT array_agg(k.name ORDER BY k.name) FROM unnest(s.key_columns) AS k (name))) AS keyed,
           (SELECT jsonb_agg(jsonb_build_array(pn.nspname, pc.relname) ORDER BY pn.nspname, pc.relname)
            FROM pg_partition_tree(CASE WHEN c.relkind = 'p' THEN c.oid END) t
            JOIN pg_catalog.pg_class pc ON pc.oid = t.relid
            JOIN pg_catalog.pg_namespace pn ON pn.oid = pc.relnamespace WHERE t.relid <> c.oid) AS partitions
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = s.schema_name AND c.relname = s.table_name
) AS source_ ON true
LEFT JOIN LATERAL (SELECT jsonb_agg(to_jsonb(t)) AS triggers FROM ({installed}) AS t) AS installed ON true
LEFT JOIN LATERAL (
    SELECT c.oid,
           -- writing to it runs its triggers, and other code that its owner defines, with the writer's rights
           (SELECT jsonb_build_array(pg_get_userbyid(c.relowner), pg_get_userbyid(f.proowner)) FROM pg_catalog.pg_proc f
            WHERE f.pronamespace = 'pgvector_sync'::regnamespace AND f.proname = 'insert_' || s.id AND f.pronargs = 0
              AND NOT pg_has_role(c.relowner, f.proowner, 'MEMBER')) AS stranger,
           (SELECT jsonb_object_agg(a.attname, format_type(a.atttypid, a.atttypmod))
                   FROM pg_catalog.pg_attribute a
                   WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = p.target_schema AND c.relname = p.target_table AND c.relkind IN ('r', 'p')
) AS target_ ON true
WHERE %(name)s::text IS NULL OR p.name = %(name)s
ORDER BY p.name;

-- part: covers
-- A deep reconciliation `r` that began after the transaction of an event `o` had ended. An event restored from another cluster
-- has a transaction id of that cluster, so its time decides.
r.kind = 'reconcile' AND r.options @> '{"deep": true}' AND NOT r.options @> '{"dry_run": true}'
AND (o.xid < r.horizon OR o.xid >= pg_snapshot_xmax(pg_current_snapshot()) AND o.at < r.started_at)

-- name: note
-- Stores what the watch found, if it differs from what is stored.
UPDATE pgvector_sync.pipeline SET problem = %(problem)s, problem_stops = %(stops)s, recheck = recheck OR %(missed)s
WHERE id = %(id)s AND state <> 'removing'
  AND (problem IS DISTINCT FROM %(problem)s OR problem_stops <> %(stops)s OR %(missed)s AND NOT recheck);

-- name: rechecked
-- Clears `recheck` in the transaction in which the deep reconciliation begins. While there is a problem, changes may still be
-- missed, so it stays set.
UPDATE pgvector_sync.pipeline SET recheck = false WHERE id = %(id)s AND recheck AND problem IS NULL;

-- name: forget_unread
-- Deletes events without a readable key after a deep reconciliation of every pipeline of their source.
DELETE FROM pgvector_sync.parked o
WHERE o.error_class = 'key_unreadable' AND NOT EXISTS (
    SELECT FROM pgvector_sync.pipeline p WHERE p.source_id = o.source_id AND p.state <> 'removing' AND NOT EXISTS (
        SELECT FROM pgvector_sync.run r WHERE r.pipeline_id = p.id AND r.state = 'finished' AND {covers}));

-- name: repair_sequences
-- Sets the sequences that are behind existing ids, as an upgrade by logical replication leaves them, to the highest id, as far as
-- this role may. Returns their tables.
WITH highest AS (
    SELECT 'source' AS name, max(id)::bigint AS id FROM pgvector_sync.source
    UNION ALL SELECT 'pipeline', max(id)::bigint FROM pgvector_sync.pipeline
    UNION ALL SELECT 'run', max(id) FROM pgvector_sync.run
    UNION ALL SELECT 'outbox', max(id) FROM pgvector_sync.outbox
), sequence AS (
    SELECT h.name, h.id, pg_get_serial_sequence('pgvector_sync.' || h.name, 'id')::regclass AS oid FROM highest h
), behind AS (
    SELECT q.name, q.id, q.oid FROM sequence q
    WHERE has_sequence_privilege(q.oid, 'UPDATE') AND has_sequence_privilege(q.oid, 'USAGE, SELECT')
    AND coalesce(pg_sequence_last_value(q.oid), 0) < q.id
)
SELECT b.name, setval(b.oid, b.id) FROM behind b ORDER BY b.name;
