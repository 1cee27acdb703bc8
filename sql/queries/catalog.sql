-- User tables, as the catalog describes them.

-- name: table
-- One table, with everything that decides whether it can be a source. The default schema is public.
SELECT c.oid, n.nspname AS schema, c.relname AS table, current_user AS role,
       CASE WHEN c.relispartition AND c.relkind = 'r' THEN 'p_child' ELSE c.relkind::text END AS kind,
       c.relkind = 'p' AS partitioned, c.relpersistence = 't' AS temporary,
       NOT c.relispartition AND c.relkind = 'r' AND EXISTS (
           SELECT FROM pg_catalog.pg_inherits i WHERE c.oid IN (i.inhparent, i.inhrelid)) AS inherits,
       (SELECT i.inhparent::regclass::text FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid LIMIT 1) AS parent,
       has_schema_privilege(n.oid, 'USAGE') AS may_use, has_table_privilege(c.oid, 'SELECT') AS may_select,
       has_table_privilege(c.oid, 'TRIGGER') AS may_trigger,
       row_security_active(c.oid) AS filtered, current_setting('temp_file_limit') <> '-1' AS spill_limited,
       pg_get_userbyid(c.relowner)::text AS owner,
       (SELECT coalesce(sum({leaf_rows}), 0)::bigint FROM pg_catalog.pg_class leaf
        WHERE leaf.relkind <> 'p' AND (leaf.oid = c.oid OR leaf.oid IN (SELECT relid FROM pg_partition_tree(c.oid) WHERE isleaf))) AS estimated_rows
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE CASE WHEN %(oid)s::oid IS NULL THEN n.nspname = coalesce(%(schema)s, 'public') AND c.relname = %(table)s
           ELSE c.oid = %(oid)s END;

-- name: similar
-- Tables with this name in other schemas, or with a similar name, quoted where SQL requires it.
SELECT format('%%I.%%I', n.nspname, c.relname) AS label
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgvector_sync')
  AND n.nspname NOT LIKE 'pg\_%%' AND (lower(c.relname) = lower(%(table)s) OR c.relname || 's' = %(table)s
       OR c.relname = %(table)s || 's')
ORDER BY 1 LIMIT 3;

-- name: columns
-- The columns of a table, in order.
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS not_null,
       a.attgenerated = 'v' AS virtual, a.attlen = -1 AND a.attstorage <> 'p' AS can_toast,
       coalesce(l.collisdeterministic, true) AS deterministic,
       CASE WHEN a.attcollation <> t.typcollation THEN ARRAY[ln.nspname, l.collname]::text[] END AS collation,
       t.typtype = 'e' AS enum
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
LEFT JOIN pg_catalog.pg_namespace ln ON ln.oid = l.collnamespace
WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum;

-- name: keys
-- Unique, valid, immediate indexes over NOT NULL columns, without a predicate or an expression.
SELECT i.indisprimary AS "primary",
       (SELECT array_agg(a.attname::text ORDER BY k.position)
        FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, position)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
        WHERE k.position <= i.indnkeyatts) AS columns
FROM pg_catalog.pg_index i
WHERE i.indrelid = %(oid)s AND i.indisunique AND i.indisvalid AND i.indimmediate
  AND i.indpred IS NULL AND i.indexprs IS NULL
  AND NOT EXISTS (SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, position)
                  JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                  WHERE k.position <= i.indnkeyatts AND NOT a.attnotnull)
ORDER BY i.indisprimary DESC, i.indexrelid;

-- name: partitions
-- All partitions of a partitioned table. Each needs its own TRUNCATE trigger.
SELECT n.nspname AS schema, c.relname AS table
FROM pg_partition_tree(%(oid)s) t JOIN pg_catalog.pg_class c ON c.oid = t.relid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE t.relid <> %(oid)s ORDER BY 1, 2;

-- name: owned_by_another
-- The table or its first partition whose owner this role can't act as.
SELECT n.nspname::text AS schema, c.relname::text AS table, pg_get_userbyid(c.relowner)::text AS owner, current_user::text AS role
FROM (SELECT %(oid)s::oid AS relid UNION SELECT relid FROM pg_partition_tree(%(oid)s)) t
JOIN pg_catalog.pg_class c ON c.oid = t.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE NOT pg_has_role(c.relowner, 'USAGE') ORDER BY c.oid <> %(oid)s, 1, 2 LIMIT 1;

-- name: relation
-- The relation with a name, if there is one.
SELECT c.oid, c.relkind::text AS kind FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s;
