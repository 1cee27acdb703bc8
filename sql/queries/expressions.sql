-- Pinning expressions: what they mean under the default search_path, spelled out.

-- name: paths
-- The default of database and role, ours, and the schemas that ours reaches.
SELECT s.reset_val AS default_path, s.setting AS our_path, current_schemas(false)::text[] AS schemas
FROM pg_catalog.pg_settings s WHERE s.name = 'search_path';

-- name: look_up
-- To the end of the transaction, or of the subtransaction.
SELECT pg_catalog.set_config('search_path', %(path)s, true);

-- name: schemas
-- Where names are looked up now.
SELECT pg_catalog.current_schemas(false)::pg_catalog.text[] AS schemas;

-- name: shared
-- Whether there is something on a search_path that a function's body could call, of a role that isn't trusted.
SELECT EXISTS (
    SELECT FROM (SELECT p.pronamespace, p.proowner FROM pg_catalog.pg_proc p
                 UNION ALL SELECT o.oprnamespace, o.oprowner FROM pg_catalog.pg_operator o
                 UNION ALL SELECT t.typnamespace, t.typowner FROM pg_catalog.pg_type t WHERE t.typtype = 'd'
                 UNION ALL SELECT c.relnamespace, c.relowner FROM pg_catalog.pg_class c WHERE c.relkind = 'v') AS made (schema, owner)
    JOIN pg_catalog.pg_namespace n ON n.oid = made.schema
    WHERE n.nspname = ANY (%(schemas)s) AND n.nspname <> 'pg_catalog' AND NOT {trusts_owner}) AS shared;

-- name: create_view
-- Has Postgres parse one expression, to be printed with its names spelled out.
CREATE VIEW {view} AS SELECT ({given}
) AS pgvector_sync_text FROM {source};

-- name: drop_view
-- Makes way for the next.
DROP VIEW {view};

-- name: printed
-- The definition of a view, with names qualified that the search_path doesn't find.
SELECT pg_catalog.pg_get_viewdef(%(view)s::regclass) AS printed;

-- name: some
-- Text and `where` of the first rows, as they come out under the search_path of now.
SELECT ({text})::pg_catalog.text AS text, {wanted} IS TRUE AS wanted FROM {source} ORDER BY {key_columns} LIMIT 20;

-- name: explain
-- Whether a condition is one: planned, and not executed.
EXPLAIN SELECT FROM {source} WHERE {condition};
