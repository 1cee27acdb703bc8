-- Keys that no partition of a partitioned source accepts, because their partition was dropped or detached.

-- name: bounds
-- The constraint of each leaf partition, as SQL over the key's columns; NULL for a leaf that accepts every key. No row unless
-- the source is partitioned, has rows, and is the same table that the pipeline's vectors are known to come from: a table that
-- was restored or swapped in may still get the partitions that it lacks.
SELECT array_agg(pg_get_partition_constraintdef(leaf.relid)) AS bounds
FROM pgvector_sync.pipeline p
JOIN pg_catalog.pg_class c ON c.oid = p.known_table
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL pg_partition_tree(c.oid) AS leaf
WHERE p.id = %(pipeline_id)s AND n.nspname = %(schema)s AND c.relname = %(table)s AND c.relkind = 'p' AND leaf.isleaf
  AND EXISTS (SELECT FROM {source})
HAVING count(*) > 0;

-- name: unplaced
-- The keys, out of a list, that no leaf accepts. The bounds are applied to the target's columns, which have the types and
-- collations of the source's.
SELECT pgvector_sync_key.key FROM unnest(%(keys)s::jsonb[]) AS pgvector_sync_key (key)
WHERE EXISTS (SELECT FROM {stored} WHERE {stored_of_key} AND NOT ({placed}) OFFSET 0);

-- name: remember
-- Records the source's table after source and vectors were compared, and what differed was enqueued.
UPDATE pgvector_sync.pipeline SET known_table = c.oid
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE pipeline.id = %(pipeline_id)s AND n.nspname = %(schema)s AND c.relname = %(table)s
  AND pipeline.known_table IS DISTINCT FROM c.oid;

-- name: remember_if_empty
-- Records the source's table if there is no vector yet: all vectors will come from it.
UPDATE pgvector_sync.pipeline SET known_table = %(oid)s
WHERE id = %(pipeline_id)s AND known_table IS DISTINCT FROM %(oid)s AND NOT EXISTS (SELECT FROM {target});
