-- What `init` looks at to propose a pipeline. Only catalogs and statistics are read, never a row of a table.

-- name: columns
-- The columns of a table, with what the statistics say about them.
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
       t.typcategory = 'S' AND t.oid <> 'name'::regtype AS is_text, a.attgenerated <> '' AS generated,
       s.avg_width, s.n_distinct
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname
     AND s.inherited = (c.relkind = 'p')
WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum;

-- name: relations
-- The name of every table, view and foreign table outside of the system's schemas and ours.
SELECT n.nspname::text AS schema, c.relname::text AS table
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgvector_sync')
  AND n.nspname !~ '^pg_' ORDER BY n.nspname <> 'public', 1, 2;

-- name: tables
-- Tables with at least one text column that this role may read, the largest first: no partitions, no targets, nothing that
-- belongs to an extension.
SELECT n.nspname::text AS schema, c.relname::text AS table, sum({leaf_rows})::bigint AS rows,
       sum(coalesce(pg_table_size(leaf.oid), 0))::bigint AS bytes, min(columns.count)::int AS text_columns
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT count(*) FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND t.typcategory = 'S' AND t.oid <> 'name'::regtype) columns
JOIN pg_catalog.pg_class leaf ON leaf.oid = c.oid OR leaf.oid IN (SELECT relid FROM pg_partition_tree(c.oid) WHERE isleaf)
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' AND columns.count > 0
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgvector_sync') AND n.nspname !~ '^pg_'
  AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
  AND coalesce(obj_description(c.oid, 'pg_class'), '') !~ '^Embeddings of .*, kept by pgvector-sync'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend x WHERE x.classid = 'pg_class'::regclass AND x.objid = c.oid
                  AND x.deptype = 'e')
GROUP BY 1, 2 ORDER BY 4 DESC, 1, 2;
