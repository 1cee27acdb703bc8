-- The triggers on a user's table. DDL takes no parameters: everything in braces is composed as literal or identifier.

-- name: create_function
-- Appends the key of a changed row to the outbox, and deletes a gone row's vectors where that is safe. A key column
-- may have been renamed or given another type since this was installed: no statement of the application may fail for
-- that, so the key is read in a block that writes nothing (it gets no subtransaction id, and costs about 2 µs per row).
-- Where it can't be read, the event says so, and the schema watch has the whole table compared once it is repaired.
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $capture$
DECLARE
    readable boolean := false;
    new_key  jsonb;
    old_key  jsonb;
    plain    boolean;
BEGIN
    BEGIN
        IF TG_OP = 'DELETE' THEN
            readable := {old_readable};
        ELSE
            readable := {new_readable};
        END IF;
        IF readable AND TG_OP <> 'DELETE' THEN
            new_key := {new_key};
        END IF;
        IF readable AND (TG_OP = 'DELETE' OR TG_OP = 'UPDATE' AND {key_changed}) THEN
            old_key := {old_key};
        END IF;
    EXCEPTION WHEN OTHERS THEN
        readable := false;
    END;
    IF NOT readable THEN
        INSERT INTO pgvector_sync.outbox (source_id, error_class) VALUES ({source_id}, 'key_unreadable');
        RETURN NULL;
    END IF;
    IF new_key IS NOT NULL THEN
        INSERT INTO pgvector_sync.outbox (source_id, key) VALUES ({source_id}, new_key);
    END IF;
    IF old_key IS NOT NULL THEN
        INSERT INTO pgvector_sync.outbox (source_id, key) VALUES ({source_id}, old_key);
        {delete};
    END IF;
    RETURN NULL;
END
$capture$;

-- name: key_readable
-- A part of `create_function`: the column still has a type whose values make the same keys.
pg_typeof({column}) = ANY ({types}::regtype[])

-- name: delete_vectors
-- Only where the NOT EXISTS can be trusted; elsewhere the event does it.
-- A source or target that was renamed, dropped or closed to us must not fail the application: every look-up by name
-- answers NULL then, and the schema's privilege comes first, since to_regclass raises without it.
        IF (CASE WHEN current_setting('transaction_isolation') = 'read committed'
                     AND has_schema_privilege(to_regnamespace({source_schema}), 'USAGE')
                THEN has_table_privilege(to_regclass({source_name}), 'SELECT')
                     AND NOT row_security_active(to_regclass({source_name})) END) THEN
            {deletes};
        END IF;

-- name: delete_from_target
-- One target of the source; it may have been dropped by hand. The aliases keep clear of a table named old.
-- It may be locked as a whole, too: a plain CREATE INDEX takes minutes, and the application must not wait for it. The
-- block is a subtransaction, but one that writes nothing as a rule: the DELETE is planned in it, which fails where a
-- column was renamed or retyped, and executed behind it. Only a target with triggers or foreign keys of somebody else,
-- which may fail too, has the DELETE itself inside, at the price of a subtransaction id per row.
            IF (CASE WHEN has_schema_privilege(to_regnamespace({target_schema}), 'USAGE')
                    THEN has_table_privilege(to_regclass({target_name}), 'DELETE') END) THEN
                BEGIN
                    LOCK TABLE {target} IN ROW EXCLUSIVE MODE NOWAIT;
                    SELECT NOT c.relhastriggers INTO plain FROM pg_class c
                    WHERE c.oid = to_regclass({target_name}) AND NOT EXISTS (
                        SELECT FROM {target} AS pgvector_sync_target, {source} AS pgvector_sync_source
                        WHERE false AND {target_matches_old} AND {source_matches_old});
                    IF NOT plain THEN
                        {delete_row};
                    END IF;
                EXCEPTION WHEN OTHERS THEN
                    plain := false;
                END;
                IF plain THEN
                    {delete_row};
                END IF;
            END IF;

-- name: delete_row
-- A part of `delete_from_target`.
DELETE FROM {target} AS pgvector_sync_target
WHERE {target_matches_old}
  AND NOT EXISTS (SELECT FROM {source} AS pgvector_sync_source WHERE {source_matches_old})

-- name: create_sweep_function
-- A TRUNCATE leaves one event; the drain sweeps the targets.
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $sweep$
BEGIN
    INSERT INTO pgvector_sync.outbox (source_id, key) VALUES ({source_id}, NULL);
    RETURN NULL;
END
$sweep$;

-- name: revoke
-- Firing a trigger needs no EXECUTE; nobody else has business with it.
REVOKE ALL ON FUNCTION {function}() FROM PUBLIC;

-- name: grant_to_owner
-- Except the owner of the source: whoever makes a partition of it clones our triggers, which asks for EXECUTE.
GRANT EXECUTE ON FUNCTION {function}() TO {owner};

-- name: sign
-- What was installed, so that `apply` sees whether anything differs.
COMMENT ON FUNCTION {function}() IS {signature};

-- name: create_insert_trigger
-- Row level: statement triggers miss writes aimed at a partition.
CREATE OR REPLACE TRIGGER pgvector_sync_insert AFTER INSERT ON {source}
FOR EACH ROW EXECUTE FUNCTION {function}();

-- name: create_update_trigger
-- Only for a change of a tracked column: the condition is in WHEN, so an untracked update doesn't call us at all.
CREATE OR REPLACE TRIGGER pgvector_sync_update AFTER UPDATE ON {source}
FOR EACH ROW WHEN ({changed}) EXECUTE FUNCTION {function}();

-- name: create_delete_trigger
-- The event of a gone row, and its vectors.
CREATE OR REPLACE TRIGGER pgvector_sync_delete AFTER DELETE ON {source}
FOR EACH ROW EXECUTE FUNCTION {function}();

-- name: create_truncate_trigger
-- Not inherited by partitions: the table and each partition have their own.
CREATE OR REPLACE TRIGGER pgvector_sync_truncate AFTER TRUNCATE ON {source}
FOR EACH STATEMENT EXECUTE FUNCTION {function}();

-- name: enable_always
-- Fires for replicated changes too; CREATE OR REPLACE has just reset it.
ALTER TABLE {source} ENABLE ALWAYS TRIGGER {trigger};

-- name: drop_function
-- With its triggers, wherever they are; takes a short exclusive lock on their tables.
DROP FUNCTION IF EXISTS {function}() CASCADE;

-- name: installed
-- Our triggers on a source and wherever else they are. A trigger is bound to column numbers, so what it watches is read
-- from its dependencies and not from its text.
SELECT n.nspname AS schema, c.relname AS table, t.tgname AS trigger, t.tgenabled::text AS enabled,
       t.tgparentid <> 0 AS inherited, coalesce(obj_description(f.oid, 'pg_proc'), '') AS signature,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_depend d
             JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
             WHERE d.classid = 'pg_catalog.pg_trigger'::regclass AND d.objid = t.oid
               AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = t.tgrelid AND d.refobjsubid > 0
             ORDER BY a.attnum) AS watched
FROM pg_catalog.pg_proc f
-- by its dependency, which has an index
JOIN pg_catalog.pg_depend p ON p.refclassid = 'pg_catalog.pg_proc'::regclass AND p.refobjid = f.oid
     AND p.classid = 'pg_catalog.pg_trigger'::regclass
JOIN pg_catalog.pg_trigger t ON t.oid = p.objid
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE f.pronamespace = 'pgvector_sync'::regnamespace
  AND f.proname IN ('capture_' || {source_id}, 'sweep_' || {source_id});

-- name: create_target
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

-- name: comment_target
-- What the table is, for whoever finds it.
COMMENT ON TABLE {target} IS {comment};

-- name: drop_target
-- With everything on it.
DROP TABLE IF EXISTS {target};

-- name: touch_function
-- For a trigger that is rolled back at once.
CREATE FUNCTION pgvector_sync.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';

-- name: touch
-- Locks a table as our triggers do. LOCK TABLE would need more rights than a trigger does.
CREATE TRIGGER pgvector_sync_touch AFTER TRUNCATE ON {relation}
FOR EACH STATEMENT EXECUTE FUNCTION pgvector_sync.touch();
