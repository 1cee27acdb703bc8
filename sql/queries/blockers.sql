-- Sessions whose locks block DDL.

-- name: holders
-- Sessions, autovacuum workers and prepared transactions whose locks on a table or its partitions block a CREATE TRIGGER.
-- Without pg_read_all_stats, most columns are empty for sessions of other roles, and background processes have no role.
SELECT DISTINCT ON (l.pid, l.virtualtransaction) l.pid, p.gid, n.nspname AS schema, c.relname AS table, l.mode,
       coalesce(a.application_name, '') AS application, a.usename::text AS role, a.state,
       extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared))::float8 AS age_seconds,
       l.pid IS NOT NULL AND coalesce(a.backend_type = 'autovacuum worker', a.usesysid IS NULL) AS autovacuum,
       coalesce(a.query LIKE 'autovacuum:%%to prevent wraparound)', false) AS wraparound
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
LEFT JOIN pg_catalog.pg_locks x ON l.pid IS NULL AND x.pid IS NULL AND x.locktype = 'transactionid'
          AND x.virtualtransaction = l.virtualtransaction
LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = x.transactionid
WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
  AND (l.mode <> ALL ('{AccessShareLock,RowShareLock}') OR %(exclusive)s)
  AND l.relation IN (
      SELECT coalesce(tree.relid, named.oid)
      FROM unnest(%(schemas)s::text[], %(tables)s::text[]) AS wanted (schema, "table")
      JOIN pg_catalog.pg_namespace wn ON wn.nspname = wanted.schema
      JOIN pg_catalog.pg_class named ON named.relnamespace = wn.oid AND named.relname = wanted."table"
      LEFT JOIN LATERAL pg_partition_tree(named.oid) AS tree ON true)
ORDER BY l.pid, l.virtualtransaction, l.mode;
