-- Pinning expressions: every name qualified as the default search_path resolves it.

-- name: paths
-- The default search_path of database and role, the current one, and its schemas.
SELECT s.reset_val AS default_path, s.setting AS our_path, current_schemas(false)::text[] AS schemas
FROM pg_catalog.pg_settings s WHERE s.name = 'search_path';

-- name: look_up
-- Sets the search_path until the end of the transaction or subtransaction.
SELECT pg_catalog.set_config('search_path', %(path)s, true);

-- name: schemas
-- The schemas in which names are looked up now.
SELECT pg_catalog.current_schemas(false)::pg_catalog.text[] AS schemas;

-- name: shared
-- Whether a search_path contains anything of an untrusted role that the body of a function could call.
SELECT EXISTS (
    SELECT FROM (SELECT p.pronamespace, p.proowner FROM pg_catalog.pg_proc p
                 UNION ALL SELECT o.oprnamespace, o.oprowner FROM pg_catalog.pg_operator o
                 UNION ALL SELECT t.typnamespace, t.typowner FROM pg_catalog.pg_type t WHERE t.typtype = 'd'
                 UNION ALL SELECT c.relnamespace, c.relowner FROM pg_catalog.pg_class c WHERE c.relkind = 'v') AS object (schema, owner)
    JOIN pg_catalog.pg_namespace n ON n.oid = object.schema
    WHERE n.nspname = ANY (%(schemas)s) AND n.nspname <> 'pg_catalog' AND NOT {trusts_owner}) AS shared;

-- name: create_view
-- Makes Postgres parse one expression, to print it with qualified names.
CREATE VIEW {view} AS SELECT ({given}
) AS pgvector_sync_text FROM {source};

-- name: drop_view
-- Drops the view, so that the next can be created.
DROP VIEW {view};

-- name: printed
-- The definition of a view. Names that the search_path doesn't find are qualified.
SELECT pg_catalog.pg_get_viewdef(%(view)s::regclass) AS printed;

-- name: first_rows
-- The results of text and `where` for the first rows, under the current search_path.
SELECT ({text})::pg_catalog.text AS text, {wanted} IS TRUE AS wanted FROM {source} ORDER BY {key_columns} LIMIT 20;

-- name: explain
-- Checks a condition by planning it, without executing it.
EXPLAIN SELECT FROM {source} WHERE {condition};
