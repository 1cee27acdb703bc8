-- The triggers on a source. DDL takes no parameters, so everything in braces is composed as a literal or identifier.

-- name: create_function
-- Appends the key of a changed row to the outbox, and deletes the vectors of a deleted row if that is safe.
-- The function runs with its owner's rights, in statements and on tables of other roles, so it evaluates nothing that they
-- can define: it never reads the source, and reads a column only after comparing its type. A key column may also have been
-- renamed or retyped by accident, and no statement of the application may fail because of that. So the key is read in a block
-- that writes nothing (it needs no subtransaction id, and costs about 2 µs per row). If it can't be read, the event says so, and
-- the whole table is compared after the column is fixed.
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $capture$
DECLARE
    new_key  jsonb;
    old_key  jsonb;
    plain    boolean;
BEGIN
    BEGIN
        -- each comparison of types is a statement of its own: the planner would evaluate all of an expression
        IF TG_OP = 'DELETE' THEN
            IF {old_readable} THEN
                old_key := {old_key};
            END IF;
        ELSIF {new_readable} THEN
            new_key := {new_key};
            IF TG_OP = 'UPDATE' AND {key_changed} THEN
                old_key := {old_key};
            END IF;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        new_key := NULL;
        old_key := NULL;
    END;
    IF new_key IS NOT NULL OR old_key IS NULL THEN
        INSERT INTO pgvector_sync.outbox (source_id, key, error_class)
        VALUES ({source_id}, new_key, CASE WHEN new_key IS NULL THEN 'key_unreadable' END);
    END IF;
    IF old_key IS NULL THEN
        RETURN NULL;
    END IF;
    INSERT INTO pgvector_sync.outbox (source_id, key) VALUES ({source_id}, old_key);
    IF TG_OP = 'DELETE' AND current_setting('transaction_isolation') = 'read committed' THEN
        {delete};
    END IF;
    RETURN NULL;
END
$capture$;

-- part: key_readable
-- A part of `create_function`: the column isn't NULL, and has a type whose values result in the same keys. Any other type may
-- have a cast that its owner has defined, and that reading the column would call.
pg_typeof({column}) = ANY ({types}::regtype[]) AND {column} IS NOT NULL

-- part: delete_from_target
-- A part of `create_function`: deletes a row's vectors from one target. The block keeps errors from failing the application's
-- statement: the target may have been dropped or renamed, a grant revoked, or the table locked for minutes by a plain CREATE
-- INDEX. What isn't deleted here is deleted when the event is processed. The block is a subtransaction, but normally writes
-- nothing: it only plans the DELETE, which fails if a column was renamed or retyped, and the DELETE is executed after it. For a
-- target with triggers or foreign keys, which may fail too, the DELETE is within the block, at the price of a subtransaction id
-- per row.
            plain := NULL;
            BEGIN
                IF {from_source} THEN
                    LOCK TABLE {target} IN ROW EXCLUSIVE MODE NOWAIT;
                    {trust};
                    PERFORM FROM ONLY {target} AS pgvector_sync_target WHERE false AND {target_matches_old};
                    IF NOT plain THEN
                        {delete_row};
                    END IF;
                END IF;
            EXCEPTION WHEN OTHERS THEN
                plain := NULL;
            END;
            IF plain THEN
                {delete_row};
            END IF

-- part: from_source
-- A part of `delete_from_target`: the row was deleted from the table that has the source's name now. The function may also be
-- on other tables: the former source after a swap, or one that the source's owner chose, see `grant_to_owner`.
TG_RELID = {source_name}::regclass

-- part: from_partition
-- The same for a partitioned source: the row was deleted from a partition at any level.
{source_name}::regclass = ANY (ARRAY(SELECT relid FROM pg_partition_ancestors(TG_RELID)))

-- part: trust
-- A part of `delete_from_target`: raises, and so releases the lock, unless the target is a plain table of our own. Planning a
-- statement on a table calls code of the table's owner (in an index expression), and executing it calls the table's triggers,
-- all with our rights. So the table must be ours, and so must the functions of its triggers, which must have no WHEN, since
-- that may call other functions. An internal trigger belongs to a foreign key, whose queries run with the rights of the other
-- table's owner; a deferred one would fail at the application's commit. The lock keeps all that as it is, except the table's
-- name, which the owner of the schema may change at any moment. So a superuser's rights are used only if that owner has them
-- anyway (10 is the first superuser, of which every other is a member). These are separate queries, because the planner would
-- otherwise prepare the two rare ones for each row.
SELECT NOT c.relhastriggers INTO STRICT plain FROM pg_class c
                    WHERE c.oid = {target_name}::regclass AND c.relkind = 'r'
                      AND pg_get_userbyid(c.relowner) = current_user AND has_table_privilege(c.oid, 'DELETE');
                    IF NOT plain THEN
                        SELECT false INTO STRICT plain WHERE NOT EXISTS (
                            SELECT FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
                            WHERE t.tgrelid = {target_name}::regclass AND CASE WHEN t.tgisinternal THEN t.tgdeferrable
                                ELSE pg_get_userbyid(f.proowner) <> current_user OR t.tgqual IS NOT NULL END);
                    END IF;
                    IF pg_has_role(10::oid, 'MEMBER') THEN
                        SELECT plain INTO STRICT plain FROM pg_namespace n WHERE n.nspname = {target_schema}
                          AND pg_has_role(CASE n.nspowner WHEN 'pg_database_owner'::regrole THEN
                                  (SELECT datdba FROM pg_database WHERE datname = current_database())
                                  ELSE n.nspowner END, current_user, 'MEMBER');
                    END IF

-- part: delete_row
-- A part of `delete_from_target`: the DELETE itself.
DELETE FROM ONLY {target} AS pgvector_sync_target WHERE {target_matches_old}

-- name: create_sweep_function
-- Records a TRUNCATE as one event, for which the drain sweeps the targets.
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $sweep$
BEGIN
    INSERT INTO pgvector_sync.outbox (source_id, key) VALUES ({source_id}, NULL);
    RETURN NULL;
END
$sweep$;

-- name: revoke
-- Firing a trigger needs no EXECUTE, so no role needs it.
REVOKE ALL ON FUNCTION {function}() FROM PUBLIC;

-- name: grant_to_owner
-- Only the owner of a partitioned source needs EXECUTE: creating a partition clones our triggers. The owner could then use the
-- function on other tables as well, where all it does is write events of this source.
GRANT EXECUTE ON FUNCTION {function}() TO {owner};

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

-- name: sign
-- Stores a digest of the installed DDL, by which `apply` detects differences.
COMMENT ON FUNCTION {function}() IS {signature};

-- name: create_insert_trigger
-- Row level, because statement triggers miss writes that name a partition.
CREATE OR REPLACE TRIGGER pgvector_sync_insert AFTER INSERT ON {source}
FOR EACH ROW EXECUTE FUNCTION {function}();

-- name: create_update_trigger
-- Fires only if a tracked column has changed. The condition is in WHEN, so other updates don't call the function at all.
CREATE OR REPLACE TRIGGER pgvector_sync_update AFTER UPDATE ON {source}
FOR EACH ROW WHEN ({changed}) EXECUTE FUNCTION {function}();

-- name: create_delete_trigger
-- Records the event of a deleted row, and deletes its vectors.
CREATE OR REPLACE TRIGGER pgvector_sync_delete AFTER DELETE ON {source}
FOR EACH ROW EXECUTE FUNCTION {function}();

-- name: create_truncate_trigger
-- TRUNCATE triggers aren't inherited, so the table and each partition have their own.
CREATE OR REPLACE TRIGGER pgvector_sync_truncate AFTER TRUNCATE ON {source}
FOR EACH STATEMENT EXECUTE FUNCTION {function}();

-- name: enable_always
-- Makes a trigger fire for replicated changes too. CREATE OR REPLACE has just reset that.
ALTER TABLE {source} ENABLE ALWAYS TRIGGER {trigger};

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
  AND f.proname IN ('capture_' || {source_id}, 'sweep_' || {source_id});

-- name: touch_function
-- The function of `touch`, which is rolled back at once.
CREATE FUNCTION pgvector_sync.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';

-- name: touch
-- Locks a table as creating our triggers does. LOCK TABLE would require more rights.
CREATE TRIGGER pgvector_sync_touch AFTER TRUNCATE ON {relation}
FOR EACH STATEMENT EXECUTE FUNCTION pgvector_sync.touch();
