-- What stands at a target's name, and how it is made to fit a key.

-- name: find
-- The relation with all that decides whether it can be a target of ours.
SELECT c.oid, c.relkind::text AS kind, c.relpersistence = 't' AS temporary,
       obj_description(c.oid, 'pg_class') AS comment,
       ARRAY(SELECT a.attname::text
             FROM pg_catalog.pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, position)
             JOIN pg_catalog.pg_attribute a ON a.attnum = k.attnum
             WHERE i.indrelid = c.oid AND i.indisprimary AND a.attrelid = c.oid AND k.position <= i.indnkeyatts
             ORDER BY k.position) AS primary_key,
       EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a
                   ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
               WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL AND a.attname = 'fingerprint')
           AS fingerprint_indexed,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull
               AND NOT a.atthasdef AND a.attidentity = '' ORDER BY a.attnum) AS required,
       greatest(c.reltuples, 0)::bigint AS estimated_rows
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s;

-- name: count_up_to
-- Its rows, counted no further than `limit`.
SELECT count(*) AS rows FROM (SELECT FROM {target} LIMIT %(limit)s) AS counted;

-- name: count_orphans
-- Those of them without a row in the source, for a target that is small enough to be counted.
SELECT count(*) AS rows FROM {target} AS pgvector_sync_target
WHERE NOT EXISTS (SELECT FROM {source} AS pgvector_sync_source WHERE {same_key});

-- name: lock
-- Before a look at what refers to it: from here on nothing else can.
LOCK TABLE {target} IN ACCESS EXCLUSIVE MODE;

-- name: referrers
-- Foreign keys of tables whose owners aren't trusted: when a type changes they are checked anew, with our rights, and the
-- planner evaluates what the indexes of those tables hold.
SELECT k.conname::text AS name, k.conrelid::regclass::text AS "table", pg_get_userbyid(c.relowner)::text AS owner
FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
WHERE k.contype = 'f' AND k.confrelid = {target_name}::regclass AND NOT {trusts_owner} ORDER BY 2, 1;

-- name: retype_keys
-- Wider types for key columns: rewrites the table and its indexes where Postgres stores the new type in another way.
ALTER TABLE {target} {columns};

-- name: rename_key
-- A key column's new name; only the catalog changes.
ALTER TABLE {target} RENAME COLUMN {before} TO {after};
