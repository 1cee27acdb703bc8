-- How a target is created, taken over, altered and dropped. DDL takes no parameters: names are composed.

-- name: may_create
-- Whether the target can be made where it belongs.
SELECT has_schema_privilege(%(schema)s, 'CREATE') AS may_create, current_user AS role
FROM pg_catalog.pg_namespace WHERE nspname = %(schema)s;

-- name: create
-- The side table; its key columns are the source's, types and collations included.
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
-- Finds a vector that is already paid for.
CREATE INDEX ON {target} (fingerprint);

-- name: comment
-- What the table is, for whoever finds it.
COMMENT ON TABLE {target} IS {comment};

-- name: lock
-- Before a look at what refers to it: from here on nothing else can.
LOCK TABLE {target} IN ACCESS EXCLUSIVE MODE;

-- name: referrers
-- Foreign keys of tables whose owners aren't trusted: when a type changes they are checked anew, with our rights, and the
-- planner evaluates what the indexes of those tables hold.
SELECT k.conname::text AS name, k.conrelid::regclass::text AS "table", pg_get_userbyid(c.relowner)::text AS owner
FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
WHERE k.contype = 'f' AND k.confrelid = {target_name}::regclass AND NOT {trusts_owner} ORDER BY 2, 1;

-- name: retype
-- Another dimension or vector type, for a target that is still empty.
ALTER TABLE {target} ALTER COLUMN embedding TYPE {column_type};

-- name: retype_keys
-- Wider types for key columns: rewrites the table and its indexes where Postgres stores the new type in another way.
ALTER TABLE {target} {alterations};

-- name: rename_key
-- A key column's new name; only the catalog changes.
ALTER TABLE {target} RENAME COLUMN {old_name} TO {new_name};

-- name: drop
-- With everything on it.
DROP TABLE IF EXISTS {target};
