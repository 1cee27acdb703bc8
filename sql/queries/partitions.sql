-- Which keys a partitioned source has no place for: their partition was dropped or detached.

-- name: bounds
-- What each leaf of the source may hold, as SQL over the key's columns; one that holds anything is NULL. No row unless
-- the source is partitioned, has rows, and is the very table that the pipeline's vectors are known to come from: one that
-- was restored or swapped in is another, and may yet get the partitions that it lacks.
SELECT array_agg(pg_get_partition_constraintdef(leaf.relid)) AS bounds
FROM pgvector_sync.pipeline p
JOIN pg_catalog.pg_class c ON c.oid = p.known_table
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL pg_partition_tree(c.oid) AS leaf
WHERE p.id = %(pipeline_id)s AND n.nspname = %(schema)s AND c.relname = %(table)s AND c.relkind = 'p' AND leaf.isleaf
  AND EXISTS (SELECT FROM {source})
HAVING count(*) > 0;

-- name: unplaced
-- Of these keys those that no leaf may hold. The bounds are asked of the target's columns, which have the types and
-- collations of the source's.
SELECT pgvector_sync_key.key FROM unnest(%(keys)s::jsonb[]) AS pgvector_sync_key (key)
WHERE EXISTS (SELECT FROM {stored} WHERE {stored_of_key} AND NOT ({placed}) OFFSET 0);

-- name: remember
-- The source and the vectors have been compared, and agree or soon will.
UPDATE pgvector_sync.pipeline SET known_table = c.oid
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE pipeline.id = %(pipeline_id)s AND n.nspname = %(schema)s AND c.relname = %(table)s
  AND pipeline.known_table IS DISTINCT FROM c.oid;

-- name: remember_if_empty
-- The same where there is no vector yet: all that will be are of rows of this table.
UPDATE pgvector_sync.pipeline SET known_table = %(oid)s
WHERE id = %(pipeline_id)s AND known_table IS DISTINCT FROM %(oid)s AND NOT EXISTS (SELECT FROM {target});
