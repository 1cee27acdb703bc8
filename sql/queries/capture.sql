-- The functions and triggers on a source. DDL takes no parameters, so everything in braces is composed as a literal or identifier.

-- name: create_function
-- Appends the key of an inserted, changed or deleted row to the outbox. Each of the three triggers has a function of its own,
-- since every expression costs each row 0.1 µs, and a statement of one row 2 µs.
-- The function runs with its owner's rights, in statements and on tables of other roles, so it evaluates nothing that they
-- can define: it never reads the source, and reads a column only after comparing its type. A key column may also have been
-- renamed or retyped by accident, and no statement of the application may fail because of that. So a block that writes
-- nothing (it needs no subtransaction id, and costs about 0.4 µs per row) finds out whether the key can be read. If it can't, an
-- event says so, and the whole table is compared after the column is fixed. If it can, rendering it can't fail.
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $capture$
BEGIN
    BEGIN
        -- raises if not. A statement of its own, since the planner would evaluate all of an expression
        CASE WHEN {readable} THEN NULL; END CASE;
        {fits};
    EXCEPTION WHEN OTHERS THEN
        INSERT INTO pgvector_sync.parked (source_id, error_class) VALUES ({source_id}, 'key_unreadable');
        RETURN NULL;
    END;
    INSERT INTO pgvector_sync.outbox (source_id, key) VALUES ({source_id}, {key});
    {more};
    RETURN NULL;
END
$capture$;

-- part: key_fits
-- A part of `create_function`, for keys with texts: raises if one is too long for jsonb, which takes 256 MB per key. Such a
-- text doesn't fit into a unique index either, but that may have been dropped. A statement of its own, see `key_typed`.
CASE WHEN {short} THEN NULL; END CASE

-- part: text_short
-- A part of `key_fits`: 32 such columns fit into a key. True for NULL, which a former key may contain.
(octet_length({column}) > 4000000) IS NOT TRUE

-- part: append_former_key
-- A part of `create_function`, for an UPDATE: a changed key is an event of two keys.
IF {key_changed} THEN
        INSERT INTO pgvector_sync.outbox (source_id, key) VALUES ({source_id}, {former_key});
    END IF;

-- part: delete_row_by_row
-- A part of `create_function`, for a DELETE from a source without `create_remove_trigger`: also deletes the row's vectors.
DECLARE
        plain    boolean;
    BEGIN
        IF current_setting('transaction_isolation') = 'read committed' THEN
            {delete};
        END IF;
    END;

-- name: create_remove_function
-- Deletes the vectors of all rows that a statement has deleted, if that is safe. What isn't deleted here is deleted when the
-- events of the rows are processed. The transition table may contain rows of tables that inherit from the source, whose keys
-- may be those of other rows. The first column is compared as an array, which rules out a merge join and with it an order of
-- the target as a whole, and sequential scans are disabled: so the planner can only look up each row in an index of the
-- target. Its plan is kept, and a plan that was made for an empty target, or for a DELETE of all rows, could be a scan.
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $remove$
DECLARE
    readable boolean := false;
    plain    boolean;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RETURN NULL;
    END IF;
    BEGIN
        SELECT {old_typed} AND NOT (SELECT c.relhassubclass FROM pg_class c WHERE c.oid = TG_RELID)
        INTO readable FROM pgvector_sync_deleted AS pgvector_sync_old LIMIT 1;
    EXCEPTION WHEN OTHERS THEN
        readable := false;
    END;
    IF readable THEN
        {delete};
    END IF;
    RETURN NULL;
END
$remove$;

-- part: key_typed
-- A part of `key_readable` and `create_remove_function`: the column has a type whose values result in the same keys. Any other
-- type may have a cast that its owner has defined, and that reading the column would call.
pg_typeof({column}) = ANY ({types}::regtype[])

-- part: key_readable
-- A part of `create_function`: the column has such a type and isn't NULL.
{typed} AND {column} IS NOT NULL

-- part: delete_from_target
-- A part of `delete_row_by_row` and `create_remove_function`: deletes the vectors from one target. The block keeps errors from
-- failing the application's statement: the target may have been dropped or renamed, a grant revoked, or the table locked for
-- minutes by a plain CREATE INDEX. What isn't deleted here is deleted when the event is processed. The block is a
-- subtransaction, but normally writes nothing: it only plans the DELETE, which fails if a column was renamed or retyped, and
-- the DELETE is executed after it. For a target with triggers or foreign keys, which may fail too, the DELETE is within the
-- block, at the price of a subtransaction id per execution.
            plain := NULL;
            BEGIN
                IF {from_source} THEN
                    LOCK TABLE {target} IN ROW EXCLUSIVE MODE NOWAIT;
                    {trust};
                    PERFORM FROM ONLY {target} AS pgvector_sync_target{and_deleted} WHERE false AND {matches};
                    IF NOT plain THEN
                        {delete};
                    END IF;
                END IF;
            EXCEPTION WHEN OTHERS THEN
                plain := NULL;
            END;
            IF plain THEN
                {delete};
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
-- A part of `delete_from_target`: deletes the vectors of one row.
DELETE FROM ONLY {target} AS pgvector_sync_target WHERE {matches}

-- part: delete_rows
-- A part of `delete_from_target`: deletes the vectors of all deleted rows.
DELETE FROM ONLY {target} AS pgvector_sync_target USING {deleted} WHERE {matches}

-- part: deleted
-- A part of `delete_rows`: the keys of the deleted rows. A sub-select that OFFSET keeps apart, because for a concurrent change
-- of a vector the executor carries along each row of what is joined, and of the rows themselves it would copy large texts.
(SELECT {columns} FROM pgvector_sync_deleted AS pgvector_sync_row OFFSET 0) AS pgvector_sync_old

-- name: create_sweep_function
-- Records a TRUNCATE as one event, for which the drain sweeps the targets.
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $sweep$
BEGIN
    INSERT INTO pgvector_sync.sweep (source_id) VALUES ({source_id});
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
-- Records the event of a deleted row, and deletes its vectors if `create_remove_trigger` doesn't.
CREATE OR REPLACE TRIGGER pgvector_sync_delete AFTER DELETE ON {source}
FOR EACH ROW EXECUTE FUNCTION {function}();

-- name: create_remove_trigger
-- Deletes the vectors of all rows that a statement deletes. Only where no event depends on it: a DELETE that names a partition
-- or another table that the source belongs to doesn't fire it, and neither does a replicated one.
CREATE OR REPLACE TRIGGER pgvector_sync_delete_vectors AFTER DELETE ON {source}
REFERENCING OLD TABLE AS pgvector_sync_deleted FOR EACH STATEMENT EXECUTE FUNCTION {function}();

-- name: create_truncate_trigger
-- TRUNCATE triggers aren't inherited, so the table and each partition have their own.
CREATE OR REPLACE TRIGGER pgvector_sync_truncate AFTER TRUNCATE ON {source}
FOR EACH STATEMENT EXECUTE FUNCTION {function}();

-- name: enable_always
-- Makes a trigger fire for replicated changes too. CREATE OR REPLACE has just reset that.
ALTER TABLE {source} ENABLE ALWAYS TRIGGER {trigger};
