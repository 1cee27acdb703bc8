-- Creates the roles of a deployment, each with only the rights that it needs. Run it with psql, as a role that may create roles:
--
--   psql "$ADMIN_DATABASE_URL" -v owner=sync_owner -v worker=sync_worker -v application=shop -v monitor=grafana -f roles.sql
--
-- Run it before the first `pgvector-sync migrate`, and again after it: as the owner, or as a superuser. Running it any number of
-- times changes nothing more. Existing roles keep their attributes. Later migrations and new pipelines repeat these grants
-- automatically. A superuser isn't needed: a role with CREATEROLE that owns the database suffices, as managed services have it.
--
-- owner        runs `migrate`, `apply` and `remove`; owns the schema pgvector_sync, the targets and the trigger functions
-- worker       runs `worker`, `beat` and `sync`, and may pause, reconcile and re-embed
-- application  writes the sources, reads the targets, searches, and may enqueue single rows with pgvector_sync.enqueue
-- monitor      runs `status`, `runs`, `dead-letters list`, `health`, `doctor` and `serve`; sees keys of rows, but no text and no vector
--
-- Add `-v statistics=on` to grant pg_read_all_stats to the monitor, which then sees how old the transactions of all other roles
-- are. With it, the monitor also sees the statements of all other roles, which may contain texts.

\set ON_ERROR_STOP on
\if :{?owner}
\else
  \set owner sync_owner
\endif
\if :{?worker}
\else
  \set worker sync_worker
\endif
\if :{?application}
\else
  \set application sync_application
\endif
\if :{?monitor}
\else
  \set monitor sync_monitor
\endif

SELECT format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE', wanted.name)
FROM unnest(ARRAY[:'owner', :'worker', :'application', :'monitor']) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = wanted.name)
\gexec

SELECT rolsuper OR rolcreaterole AS administrator, current_setting('server_version_num')::int < 160000 AS all_grantable
FROM pg_catalog.pg_roles WHERE rolname = current_user \gset

-- Sets the passwords that the environment contains: OWNER_PASSWORD, WORKER_PASSWORD, APPLICATION_PASSWORD, MONITOR_PASSWORD.
\if :administrator
\getenv owner_password OWNER_PASSWORD
\getenv worker_password WORKER_PASSWORD
\getenv application_password APPLICATION_PASSWORD
\getenv monitor_password MONITOR_PASSWORD
\if :{?owner_password}
  ALTER ROLE :"owner" PASSWORD :'owner_password';
\endif
\if :{?worker_password}
  ALTER ROLE :"worker" PASSWORD :'worker_password';
\endif
\if :{?application_password}
  ALTER ROLE :"application" PASSWORD :'application_password';
\endif
\if :{?monitor_password}
  ALTER ROLE :"monitor" PASSWORD :'monitor_password';
\endif
\endif

\if :{?statistics}
\else
  \set statistics off
\endif
\if :statistics
  SELECT pg_has_role(:'monitor', 'pg_read_all_stats', 'MEMBER') AS granted,
         :'administrator'::boolean AND :'all_grantable'::boolean
         OR pg_has_role('pg_read_all_stats', 'MEMBER WITH ADMIN OPTION') AS grantable,
         format('GRANT pg_read_all_stats TO %I;', :'monitor') AS statement \gset
  \if :granted
  \elif :grantable
    :statement
  \else
    \warn 'not granted: pg_read_all_stats. Run this as an administrator:' :statement
  \endif
\endif

-- Installing pgvector needs a superuser, or the administrator role of the hosting provider, once per database.
SELECT 'CREATE EXTENSION vector' WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'vector')
\gexec

-- Needed once, to create the schema pgvector_sync. It can be revoked after `migrate`.
SELECT format('GRANT CREATE ON DATABASE %I TO %I', current_database(), :'owner')
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'pgvector_sync')
\gexec

SELECT count(*) > 0 AS migrated, coalesce(bool_and(pg_has_role(nspowner, 'USAGE')), false) AS owned,
       min(nspowner::regrole::text) AS schema_owner
FROM pg_catalog.pg_namespace WHERE nspname = 'pgvector_sync' \gset
\if :migrated
\if :owned

GRANT USAGE ON SCHEMA pgvector_sync TO :"worker", :"application", :"monitor";

-- A worker reads the declarations, and changes only the state of pipelines.
GRANT SELECT ON pgvector_sync.applied_migration, pgvector_sync.provider, pgvector_sync.source, pgvector_sync.pipeline
    TO :"worker";
GRANT UPDATE (state, reason, retry_at, failures, problem, problem_stops, recheck, known_table, ef_search, probes)
    ON pgvector_sync.pipeline TO :"worker";
-- The drain locks events, which requires UPDATE on any column.
GRANT SELECT, DELETE, INSERT (source_id, key), UPDATE (key) ON pgvector_sync.outbox TO :"worker";
GRANT SELECT, DELETE, INSERT (source_id) ON pgvector_sync.sweep TO :"worker";
GRANT SELECT, DELETE, INSERT (source_id, key, error_class) ON pgvector_sync.parked TO :"worker";
GRANT SELECT, INSERT, UPDATE, DELETE ON pgvector_sync.work, pgvector_sync.lease, pgvector_sync.throughput,
    pgvector_sync.worker TO :"worker";
GRANT SELECT, INSERT, UPDATE ON pgvector_sync.usage, pgvector_sync.tick, pgvector_sync.lock, pgvector_sync.learned,
    pgvector_sync.batch_totals, pgvector_sync.call_totals TO :"worker";
GRANT SELECT, INSERT, DELETE ON pgvector_sync.history, pgvector_sync.recall TO :"worker";
GRANT SELECT, INSERT, UPDATE ON pgvector_sync.recall_attempt TO :"worker";
GRANT SELECT, DELETE, INSERT (pipeline_id, spec_version, model, vector) ON pgvector_sync.query_sample TO :"worker";
GRANT SELECT, INSERT, DELETE ON pgvector_sync.run_key, pgvector_sync.drift TO :"worker";
-- Only the owner of the targets can build an index, so a worker may only request and cancel.
GRANT SELECT, DELETE, INSERT (pipeline_id, definition, window_begin, window_end, replace, declared, memory_bytes),
    UPDATE (state, reason, phase, done_share, ended_at) ON pgvector_sync.index_build TO :"worker";
-- Not `requested_by`, and not `options` of an existing run: no role may request a run in the name of another.
GRANT SELECT, DELETE, INSERT (pipeline_id, kind, options, rows_total, traceparent), UPDATE (state, watermark, walked,
    rows_total, rows_seen, rows_enqueued, counts, samples, lease, visible_at, reason, traceparent, finished_at) ON pgvector_sync.run TO :"worker";

GRANT EXECUTE ON FUNCTION pgvector_sync.enqueue(text, anyelement) TO :"application";
-- To search, an application reads how queries are embedded, and what they are compared with.
GRANT SELECT ON pgvector_sync.applied_migration, pgvector_sync.provider, pgvector_sync.source, pgvector_sync.pipeline,
    pgvector_sync.learned TO :"application";

GRANT SELECT ON ALL TABLES IN SCHEMA pgvector_sync TO :"monitor";
GRANT SELECT ON ALL SEQUENCES IN SCHEMA pgvector_sync TO :"monitor";
-- A vector of a query reveals much about its text.
REVOKE SELECT ON pgvector_sync.query_sample FROM :"monitor";

-- Targets that were created before these roles.
SELECT format('GRANT %s ON %I.%I TO %I', g.privileges, p.target_schema, p.target_table, g.grantee)
FROM pgvector_sync.pipeline p
JOIN pg_catalog.pg_class c ON c.oid = to_regclass(format('%I.%I', p.target_schema, p.target_table))
CROSS JOIN (VALUES ('SELECT, INSERT, UPDATE, DELETE', :'worker'), ('SELECT', :'application')) AS g (privileges, grantee)
\gexec

\else
SELECT format('DO %L', format('BEGIN RAISE EXCEPTION USING MESSAGE = %L, HINT = %L; END',
    'nothing granted: the schema pgvector_sync belongs to ' || :'schema_owner',
    'run this file again as that role, or with its rights: GRANT ' || :'schema_owner' || ' TO CURRENT_USER'))
\gexec
\endif
\endif

-- The owner of each source must run this (and grant USAGE on its schema):
--   GRANT SELECT, TRIGGER ON articles TO sync_owner;
--   GRANT SELECT ON articles TO sync_worker;
-- The owner of the targets' schema must run this:
--   GRANT USAGE, CREATE ON SCHEMA public TO sync_owner;
--   GRANT USAGE ON SCHEMA public TO sync_worker;
