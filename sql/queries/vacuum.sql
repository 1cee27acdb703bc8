-- Whether vacuum keeps up with the tables that are written all the time, and what holds it back.

-- name: autovacuum
-- Whether autovacuum is enabled.
SELECT current_setting('autovacuum')::boolean AS on;

-- name: hot_tables
-- Dead rows of the tables that are written all the time.
SELECT relname AS table, n_dead_tup AS dead_tuples, greatest(last_vacuum, last_autovacuum) AS last_vacuum
FROM pg_catalog.pg_stat_user_tables WHERE schemaname = 'pgvector_sync' AND relname IN ('outbox', 'work', 'lease')
ORDER BY relname;

-- name: holders
-- What holds back vacuum in this database: long transactions, prepared ones, and snapshots of slots and standbys.
SELECT 'session' AS kind, pid::text AS name,
       concat_ws(', ', usename, nullif(application_name, ''), state) AS detail, clock_timestamp() - xact_start AS age
FROM pg_catalog.pg_stat_activity
WHERE pid <> pg_backend_pid() AND (datname = current_database() OR datname IS NULL)
  AND backend_type IN ('client backend', 'walsender') AND (backend_xid IS NOT NULL OR backend_xmin IS NOT NULL)
  AND (xact_start < clock_timestamp() - %(long)s OR age(backend_xmin) > %(old_xids)s)
UNION ALL
SELECT 'prepared', gid, database, clock_timestamp() - prepared FROM pg_catalog.pg_prepared_xacts
WHERE prepared < clock_timestamp() - %(long)s AND database = current_database()
UNION ALL
SELECT 'slot', slot_name, CASE WHEN active THEN 'active' ELSE 'inactive' END, NULL FROM pg_catalog.pg_replication_slots
WHERE xmin IS NOT NULL AND age(xmin) > %(old_xids)s
ORDER BY 1, 2;

-- name: hidden_sessions
-- Whether this role sees the transactions of other roles' sessions.
SELECT current_user AS role, pg_has_role('pg_read_all_stats', 'USAGE') AS all_visible;
