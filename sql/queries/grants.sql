-- Privileges in our schema. `sql/roles.sql` has the same grants for psql; a test keeps the two in step.

-- part: needed
-- The privileges that a worker's role needs, one row per table. `inserted` and `updated` are the columns that it may set, if
-- not all: a worker must not decide what is embedded, where it is sent, or in whose name a run is requested. List each table
-- that a migration adds here.
SELECT * FROM (VALUES
    ('applied_migration', '{SELECT}'::text[], NULL::text[], NULL::text[]),
    ('provider', '{SELECT}', NULL, NULL),
    ('source', '{SELECT}', NULL, NULL),
    ('learned', '{SELECT,INSERT,UPDATE}', NULL, NULL),
    ('pipeline', '{SELECT}', NULL, '{state,reason,retry_at,failures,problem,problem_stops,recheck,known_table,ef_search,probes}'),
    -- the drain locks events, which requires UPDATE on any column
    ('outbox', '{SELECT,DELETE}', '{source_id,key}', '{key}'),
    ('sweep', '{SELECT,DELETE}', '{source_id}', NULL),
    ('parked', '{SELECT,DELETE}', '{source_id,key,error_class}', NULL),
    ('work', '{SELECT,INSERT,UPDATE,DELETE}', NULL, NULL),
    ('lease', '{SELECT,INSERT,UPDATE,DELETE}', NULL, NULL),
    ('run', '{SELECT,DELETE}', '{pipeline_id,kind,options,rows_total,traceparent}',
     '{state,watermark,walked,rows_total,rows_seen,rows_enqueued,counts,samples,lease,visible_at,reason,traceparent,finished_at}'),
    ('run_key', '{SELECT,INSERT,DELETE}', NULL, NULL),
    ('usage', '{SELECT,INSERT,UPDATE}', NULL, NULL),
    ('throughput', '{SELECT,INSERT,UPDATE,DELETE}', NULL, NULL),
    ('tick', '{SELECT,INSERT,UPDATE}', NULL, NULL),
    ('worker', '{SELECT,INSERT,UPDATE,DELETE}', NULL, NULL),
    ('drift', '{SELECT,INSERT,DELETE}', NULL, NULL),
    ('batch_totals', '{SELECT,INSERT,UPDATE}', NULL, NULL),
    ('call_totals', '{SELECT,INSERT,UPDATE}', NULL, NULL),
    ('history', '{SELECT,INSERT,DELETE}', NULL, NULL),
    ('index_build', '{SELECT,DELETE}', '{pipeline_id,definition,window_begin,window_end,replace,declared,memory_bytes}',
     '{state,reason,phase,done_share,ended_at}'),
    ('recall', '{SELECT,INSERT,DELETE}', NULL, NULL),
    ('recall_attempt', '{SELECT,INSERT,UPDATE}', NULL, NULL),
    ('query_sample', '{SELECT,DELETE}', '{pipeline_id,spec_version,model,vector}', NULL),
    ('lock', '{SELECT,INSERT,UPDATE}', NULL, NULL)
) AS needed_ (name, privileges, inserted, updated)

-- part: spelled
-- The same, one row per privilege, in the syntax of GRANT.
SELECT c.oid, n.name, p.privilege, p.columns, p.position,
       p.privilege || CASE WHEN p.columns IS NULL THEN '' ELSE ' (' || array_to_string(p.columns, ', ') || ')' END AS spelled
FROM ({needed}) AS n
JOIN pg_catalog.pg_class c ON c.relname = n.name
     AND c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'pgvector_sync')
CROSS JOIN LATERAL (
    SELECT u.privilege, NULL::text[] AS columns, u.place::int AS position
    FROM unnest(n.privileges) WITH ORDINALITY AS u (privilege, place)
    UNION ALL SELECT 'INSERT', n.inserted, 11 WHERE n.inserted IS NOT NULL
    UNION ALL SELECT 'UPDATE', n.updated, 12 WHERE n.updated IS NOT NULL
) AS p

-- name: lacking
-- The privileges that a worker needs and this role lacks, with their tables.
WITH lacking AS (
    SELECT s.name, array_agg(s.spelled ORDER BY s.position) AS privileges
    FROM ({spelled}) AS s
    WHERE NOT CASE WHEN s.columns IS NULL THEN has_table_privilege(s.oid, s.privilege)
                   ELSE (SELECT bool_and(has_column_privilege(s.oid, k.name, s.privilege)) FROM unnest(s.columns) AS k (name))
              END
    GROUP BY s.name
)
SELECT privileges, array_agg(name ORDER BY name) AS tables FROM lacking GROUP BY privileges ORDER BY min(name);

-- name: only_reads
-- Whether this role may read everything in our schema that a worker reads, except vectors of queries, and write nothing, as a
-- monitor does.
SELECT bool_and(has_table_privilege(s.oid, 'SELECT') OR s.name = 'query_sample')
       AND NOT bool_or(has_any_column_privilege(s.oid, 'INSERT, UPDATE') OR has_table_privilege(s.oid, 'DELETE')) AS only_reads
FROM ({spelled}) AS s;

-- name: only_searches
-- Whether this role may read the declarations, which an application needs to search, and none of the other tables.
SELECT bool_and(has_table_privilege(c.oid, 'SELECT')
                = (c.relname IN ('applied_migration', 'provider', 'source', 'pipeline', 'learned'))) AS only_searches
FROM pg_catalog.pg_class c
WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'pgvector_sync') AND c.relkind IN ('r', 'p');

-- part: granted
-- What was granted on some tables to roles other than their owner, one row per privilege on a table or column.
SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relowner AS owner, a.grantee, a.privilege, a.column,
       coalesce(r.rolname::text, 'PUBLIC') AS role, coalesce(r.rolsuper, false) AS superuser
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT x.grantee, x.privilege_type AS privilege, NULL::text AS column FROM aclexplode(c.relacl) AS x
    UNION ALL
    SELECT x.grantee, x.privilege_type, t.attname::text FROM pg_catalog.pg_attribute t CROSS JOIN aclexplode(t.attacl) AS x
    WHERE t.attrelid = c.oid AND t.attacl IS NOT NULL AND NOT t.attisdropped
) AS a
LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
WHERE {tables} AND a.grantee <> c.relowner

-- part: ours_and_targets
-- A part of `granted`: our tables and the targets.
c.relkind IN ('r', 'p') AND (n.nspname = 'pgvector_sync'
    OR (n.nspname, c.relname) IN (SELECT target_schema, target_table FROM pgvector_sync.pipeline))

-- part: declarations
-- A part of `granted`: the tables that define what is embedded, and where it is sent.
c.oid IN ('pgvector_sync.pipeline'::regclass, 'pgvector_sync.source'::regclass, 'pgvector_sync.provider'::regclass)

-- name: excess
-- Privileges beyond what a worker needs. Reading is harmless, and so is writing the rows of a target; everything else is
-- listed. Revoking a privilege on a table also revokes it on its columns, so `needed` has to be granted again.
SELECT g.role, g.schema, g.name,
       array_agg(DISTINCT g.privilege || coalesce(' (' || quote_ident(g.column) || ')', '')) AS privileges,
       ARRAY(SELECT s.spelled FROM ({spelled}) AS s JOIN ({workers}) AS w ON w.oid = g.grantee
             WHERE s.oid = g.oid AND s.columns IS NOT NULL
             AND s.privilege = ANY (array_agg(g.privilege) FILTER (WHERE g.column IS NULL))) AS needed
FROM ({granted}) AS g
WHERE g.privilege <> 'SELECT' AND NOT g.superuser
  AND NOT CASE WHEN g.schema <> 'pgvector_sync' THEN g.privilege IN ('INSERT', 'UPDATE', 'DELETE', 'MAINTAIN') ELSE EXISTS (
      SELECT FROM ({spelled}) AS s WHERE s.oid = g.oid AND s.privilege = g.privilege
      AND (s.columns IS NULL OR g.column = ANY (s.columns))) END
GROUP BY g.role, g.schema, g.name, g.grantee, g.oid ORDER BY 1, 2, 3;

-- name: writers
-- Roles other than the owner that may change what is embedded or where it is sent, and have fewer rights than this role: it
-- must not run what they may have written.
SELECT DISTINCT g.role FROM ({granted}) AS g
WHERE g.privilege IN ('INSERT', 'UPDATE', 'TRIGGER') AND pg_has_role(g.owner, 'MEMBER') AND NOT g.superuser
  AND (g.grantee = 0 OR NOT pg_has_role(g.grantee, g.owner, 'MEMBER'))
  AND NOT EXISTS (SELECT FROM ({spelled}) AS s WHERE s.oid = g.oid AND s.privilege = g.privilege AND g.column = ANY (s.columns))

-- part: workers
-- The roles of workers, recognized by their grants.
SELECT DISTINCT r.oid, r.rolname::text AS name
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'pgvector_sync'
CROSS JOIN aclexplode(c.relacl) AS a JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
WHERE c.relname = 'work' AND a.privilege_type = 'DELETE' AND a.grantee <> c.relowner AND NOT r.rolsuper

-- name: repeat
-- The GRANT statements to run after a migration: what workers need, and SELECT on new tables for roles that read ours, except on
-- vectors of queries.
SELECT format('GRANT %%s ON pgvector_sync.%%I TO %%I', string_agg(s.spelled, ', ' ORDER BY s.position), s.name, w.name) AS grant
FROM ({spelled}) AS s CROSS JOIN ({workers}) AS w GROUP BY s.name, w.name
UNION ALL
SELECT DISTINCT format('GRANT SELECT ON pgvector_sync.%%I TO %%I', t.relname, r.rolname)
FROM pg_catalog.pg_class c CROSS JOIN aclexplode(c.relacl) AS a JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
JOIN pg_catalog.pg_class t ON t.relnamespace = c.relnamespace AND t.relkind IN ('r', 'p', 'S')
WHERE c.oid = 'pgvector_sync.work'::regclass AND a.privilege_type = 'SELECT' AND a.grantee <> c.relowner AND NOT r.rolsuper
  AND r.oid NOT IN (SELECT oid FROM ({workers}) AS w) AND t.relname <> 'query_sample'
ORDER BY 1;

-- name: on_target
-- The GRANT statements for workers on a target that was just created.
SELECT format('GRANT SELECT, INSERT, UPDATE, DELETE ON %%s TO %%I', %(target)s::text, w.name) AS grant FROM ({workers}) AS w ORDER BY 1;

-- name: closed_to_workers
-- Workers' roles that may not read a source.
SELECT w.name AS role FROM ({workers}) AS w JOIN pg_catalog.pg_class c ON c.oid = %(oid)s
WHERE NOT (has_schema_privilege(w.oid, c.relnamespace, 'USAGE') AND has_any_column_privilege(w.oid, c.oid, 'SELECT'))
ORDER BY 1;

-- name: role
-- The current role, whether row-level security applies to it, and whether this is the embedded server, which has one role.
-- `attributes` and `memberships` give rights on the whole server or database, which no role of ours needs.
SELECT rolname AS role, rolsuper AS superuser, rolbypassrls AS bypasses, current_setting('cluster_name') = %(cluster)s AS embedded,
       ARRAY(SELECT a.name FROM (VALUES ('CREATEROLE', rolcreaterole), ('CREATEDB', rolcreatedb), ('REPLICATION', rolreplication))
             AS a (name, set) WHERE a.set) AS attributes,
       ARRAY(SELECT m.name FROM unnest('{pg_read_all_data,pg_write_all_data,pg_read_server_files,pg_write_server_files,
             pg_execute_server_program}'::text[]) AS m (name) WHERE pg_has_role(m.name, 'USAGE')) AS memberships
FROM pg_catalog.pg_roles WHERE rolname = current_user;

-- name: writable_sources
-- The sources whose rows this role may change, and whether it owns them. A worker only reads them.
SELECT s.schema_name AS schema, s.table_name AS table, pg_has_role(c.relowner, 'USAGE') AS owned
FROM pgvector_sync.source s JOIN pg_catalog.pg_namespace n ON n.nspname = s.schema_name
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = s.table_name
WHERE pg_has_role(c.relowner, 'USAGE') OR has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
   OR has_any_column_privilege(c.oid, 'INSERT, UPDATE')
ORDER BY 1, 2;

-- name: own_schema
-- Whether this role may use our schema; no row if it doesn't exist.
SELECT current_user AS role, has_schema_privilege(oid, 'USAGE') AS usable
FROM pg_catalog.pg_namespace WHERE nspname = 'pgvector_sync';

-- name: closed_to_triggers
-- Owners of our trigger functions that may not insert into a table that these write to: writes to the source fail.
SELECT DISTINCT r.rolname AS owner
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_roles r ON r.oid = p.proowner
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = ANY (%(tables)s)
WHERE n.nspname = 'pgvector_sync' AND p.prorettype = 'trigger'::regtype
  AND NOT (has_schema_privilege(r.oid, n.oid, 'USAGE') AND has_table_privilege(r.oid, c.oid, 'INSERT'))
ORDER BY 1;

-- name: trigger_superusers
-- Superusers that own our trigger functions: every write to a source calls a function with their rights.
SELECT DISTINCT r.rolname AS owner
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_roles r ON r.oid = p.proowner
WHERE n.nspname = 'pgvector_sync' AND p.prosecdef AND r.rolsuper
ORDER BY 1;

-- name: access
-- What this role may do with a table, and which of the columns that a pipeline reads it may not.
SELECT c.oid, n.nspname AS schema, c.relname AS table, current_user AS role,
       has_schema_privilege(n.oid, 'USAGE') AS usable, row_security_active(c.oid) AS filtered,
       ARRAY(SELECT p.privilege FROM unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS p (privilege)
             WHERE NOT has_table_privilege(c.oid, p.privilege)) AS lacking,
       ARRAY(SELECT r.name FROM pgvector_sync.pipeline q CROSS JOIN unnest(q.read_columns) AS r (name)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = r.name AND NOT a.attisdropped
             WHERE q.id = %(pipeline_id)s AND NOT has_column_privilege(c.oid, a.attnum, 'SELECT')) AS unreadable
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = %(oid)s;
