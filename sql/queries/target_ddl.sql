-- Creating, adopting, altering and dropping a target. DDL takes no parameters, so names are composed.

-- name: may_create
-- Whether this role may create tables in a schema.
SELECT has_schema_privilege(%(schema)s, 'CREATE') AS may_create, current_user AS role
FROM pg_catalog.pg_namespace WHERE nspname = %(schema)s;

-- name: create
-- Creates the target. Its key columns have the types and collations of the source's.
CREATE TABLE {target} (
    {key_definitions},
    chunk_no     int NOT NULL DEFAULT 0,
    chunk        text,
    embedding    {column_type} NOT NULL,
    fingerprint  bytea NOT NULL,
    model        text NOT NULL,
    embedded_at  timestamptz NOT NULL,
    PRIMARY KEY ({key_columns}, chunk_no)
);

-- name: index_fingerprint
-- The index that finds vectors to reuse.
CREATE INDEX ON {target} (fingerprint);

-- name: comment
-- Marks the table as ours, and says what it is.
COMMENT ON TABLE {target} IS {comment};

-- name: lock
-- Locks the target before `referrers`, so that no foreign key can be added after.
LOCK TABLE {target} IN ACCESS EXCLUSIVE MODE;

-- name: referrers
-- Foreign keys of tables whose owners aren't trusted. A change of types checks them again with our rights, and planning the
-- check evaluates expressions in the indexes of those tables.
SELECT k.conname::text AS name, k.conrelid::regclass::text AS "table", pg_get_userbyid(c.relowner)::text AS owner
FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
WHERE k.contype = 'f' AND k.confrelid = {target_name}::regclass AND NOT {trusts_owner} ORDER BY 2, 1;

-- name: retype
-- Changes the dimensions or vector type of a target that is still empty.
ALTER TABLE {target} ALTER COLUMN embedding TYPE {column_type};

-- name: retype_keys
-- Widens the types of key columns. It rewrites the table and its indexes if Postgres stores the new type differently.
ALTER TABLE {target} {alterations};

-- name: rename_key
-- Renames a key column, which changes only the catalog.
ALTER TABLE {target} RENAME COLUMN {old_name} TO {new_name};

-- name: drop
-- Drops the target, with its indexes and triggers.
DROP TABLE IF EXISTS {target};
