-- The triggers that are installed on a source, and the rights to their functions.

-- name: executors
-- Roles other than the owner that may execute our functions: CREATE OR REPLACE keeps earlier grants, and ALTER DEFAULT
-- PRIVILEGES may add some.
SELECT f.proname::text AS function, pg_get_userbyid(a.grantee)::text AS role
FROM pg_catalog.pg_proc f, aclexplode(f.proacl) AS a
WHERE f.pronamespace = 'pgvector_sync'::regnamespace AND f.proname = ANY (%(functions)s) AND f.pronargs = 0
  AND a.grantee NOT IN (0, f.proowner);

-- name: owned_by_another
-- What a removal would drop, and whose owner this role can't act as: our functions first, then the target.
SELECT owned.label, pg_get_userbyid(owned.owner)::text AS owner, owned.target, current_user::text AS role
FROM (
    SELECT f.oid::regprocedure::text AS label, f.proowner AS owner, false AS target
    FROM pg_catalog.pg_proc f
    WHERE f.pronamespace = 'pgvector_sync'::regnamespace AND f.proname = ANY (%(functions)s) AND f.pronargs = 0
      AND NOT pg_has_role(f.proowner, 'USAGE')
    UNION ALL
    SELECT c.oid::regclass::text, c.relowner, true
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND NOT pg_has_role(c.relowner, 'USAGE')
      AND NOT pg_has_role(n.nspowner, 'USAGE')
) AS owned ORDER BY owned.target, owned.label LIMIT 1;

-- name: revoke_from
-- Revokes EXECUTE from a role, such as a former owner of the source.
REVOKE ALL ON FUNCTION {function}() FROM {grantee};

-- name: drop_function
-- Drops a function and its triggers, on whatever table. Takes a short exclusive lock on those tables.
DROP FUNCTION IF EXISTS {function}() CASCADE;

-- name: installed
-- Our triggers of a source, on whatever table. A trigger is bound to column numbers, so the columns it watches are read from
-- its dependencies instead of its definition.
SELECT n.nspname AS schema, c.relname AS table, t.tgname AS trigger, t.tgenabled::text AS enabled,
       t.tgparentid <> 0 AS inherited, coalesce(obj_description(f.oid, 'pg_proc'), '') AS signature,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_depend d
             JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
             WHERE d.classid = 'pg_catalog.pg_trigger'::regclass AND d.objid = t.oid
               AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = t.tgrelid AND d.refobjsubid > 0
             ORDER BY a.attnum) AS watched
FROM pg_catalog.pg_proc f
-- found by its dependency, which has an index
JOIN pg_catalog.pg_depend p ON p.refclassid = 'pg_catalog.pg_proc'::regclass AND p.refobjid = f.oid
     AND p.classid = 'pg_catalog.pg_trigger'::regclass
JOIN pg_catalog.pg_trigger t ON t.oid = p.objid
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE f.pronamespace = 'pgvector_sync'::regnamespace
  AND f.proname IN ('insert_' || {source_id}, 'update_' || {source_id}, 'delete_' || {source_id}, 'remove_' || {source_id},
                    'sweep_' || {source_id});

-- name: touch_function
-- The function of `touch`, which is rolled back at once.
CREATE FUNCTION pgvector_sync.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';

-- name: touch
-- Locks a table as creating our triggers does. LOCK TABLE would require more rights.
CREATE TRIGGER pgvector_sync_touch AFTER TRUNCATE ON {relation}
FOR EACH STATEMENT EXECUTE FUNCTION pgvector_sync.touch();
