-- The ledger of migrations.

-- name: schema_exists
-- Whether the schema and its ledger exist, and whether this role may read them.
SELECT n.oid IS NOT NULL AS schema_exists, c.oid IS NOT NULL AS ledger_exists,
       coalesce(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), true) AS may_read,
       pg_get_userbyid(n.nspowner)::text AS owner, current_user::text AS role
FROM (SELECT) AS always LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'pgvector_sync'
LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = 'applied_migration';

-- name: create_schema
-- Creates our schema. IF NOT EXISTS would require CREATE on the database even if the schema exists.
CREATE SCHEMA pgvector_sync;

-- name: create_extension
-- Installs pgvector.
CREATE EXTENSION vector WITH SCHEMA public;

-- name: create_ledger
-- Creates the ledger, which no migration can create.
CREATE TABLE pgvector_sync.applied_migration (
    number     int PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    shuts_out  boolean NOT NULL DEFAULT false,                 -- programs that don't know it must not go on
    program    text,                                           -- the version that applied it
    applied_at timestamptz NOT NULL DEFAULT statement_timestamp()
);

-- name: applied
-- The applied migrations, in order.
SELECT number, name, checksum, shuts_out, program FROM pgvector_sync.applied_migration ORDER BY number;

-- name: record
-- Runs before the migration's statements, so that a concurrent run would fail on the primary key.
INSERT INTO pgvector_sync.applied_migration (number, name, checksum, shuts_out, program)
VALUES (%(number)s, %(name)s, %(checksum)s, %(shuts_out)s, %(program)s);

-- name: extension
-- The installed and the available version of pgvector.
SELECT (SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'vector') AS installed,
       (SELECT default_version FROM pg_catalog.pg_available_extensions WHERE name = 'vector') AS available,
       current_setting('server_version_num')::int AS server_version_num,
       current_database() AS database, current_user AS role;

-- name: newest
-- The last applied migration.
SELECT number, name FROM pgvector_sync.applied_migration ORDER BY number DESC LIMIT 1;
