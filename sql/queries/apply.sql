-- What `apply` asks before it changes anything.

-- name: count_up_to
-- Rows that `where` accepts, counted no further than `limit`: the planner's estimate is 0 for a table never analyzed.
SELECT count(*) AS rows FROM (SELECT FROM {source} WHERE {wanted} LIMIT %(limit)s) AS counted;

-- name: estimate
-- The same as the planner has it.
EXPLAIN (FORMAT JSON) SELECT FROM {source} WHERE {wanted};

-- name: target_filled
-- Whether a target holds any vector.
SELECT EXISTS (SELECT FROM {target}) AS filled;

-- name: retype_target
-- Another dimension or vector type, for a target that is still empty.
ALTER TABLE {target} ALTER COLUMN embedding TYPE {column_type};

-- name: may_create
-- Whether the target can be made where it belongs.
SELECT has_schema_privilege(%(schema)s, 'CREATE') AS may_create, current_user AS role
FROM pg_catalog.pg_namespace WHERE nspname = %(schema)s;
