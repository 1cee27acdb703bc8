-- Bulk re-embeds and reconciliation: what a run was asked for, what it found, and when the next one is due.

-- Options: a day's tokens for bulk, US dollars per million tokens, and the schedule of reconciliations.
ALTER TABLE pgvector_sync.pipeline
    ADD COLUMN tokens_per_day bigint CHECK (tokens_per_day > 0),
    ADD COLUMN price numeric CHECK (price >= 0),
    ADD COLUMN reconcile jsonb NOT NULL DEFAULT '{}';

-- A few of the keys that were found, of each kind, for a person to look at.
ALTER TABLE pgvector_sync.run ADD COLUMN samples jsonb NOT NULL DEFAULT '{}';

-- One reconciliation a pipeline at a time, however many ask.
CREATE UNIQUE INDEX run_reconcile ON pgvector_sync.run (pipeline_id) WHERE kind = 'reconcile' AND state = 'running';

-- The keys of a run that was given a list, and the orphans that a reconciliation keeps until it knows how many there are.
CREATE TABLE pgvector_sync.run_key (
    run_id bigint NOT NULL,
    key    jsonb NOT NULL CHECK (pgvector_sync.is_key(key)),
    PRIMARY KEY (run_id, key)
);

-- What every reconciliation has found; outlives its run, so that a trend can be shown.
CREATE TABLE pgvector_sync.drift (
    pipeline_id int NOT NULL,
    at          timestamptz NOT NULL DEFAULT statement_timestamp(),
    run_id      bigint NOT NULL,
    deep        boolean NOT NULL,
    rows        bigint NOT NULL,
    vectors     bigint NOT NULL,
    missing     bigint NOT NULL,
    stale       bigint NOT NULL,
    orphaned    bigint NOT NULL,
    wrong_model bigint NOT NULL,
    broken      bigint NOT NULL,
    incomplete  bigint NOT NULL,
    stuck       bigint NOT NULL,
    PRIMARY KEY (pipeline_id, at)
);

REVOKE ALL ON pgvector_sync.run_key, pgvector_sync.drift FROM PUBLIC;

-- `select pgvector_sync.enqueue('articles', id)`: looks at a row again, as if it had changed. One event in the caller's
-- transaction; a load of them waits in the bulk lane. The key is the value of its column, or a jsonb array of several.
CREATE FUNCTION pgvector_sync.enqueue(pipeline text, key anyelement) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO, YMD' AS $enqueue$
DECLARE
    given  jsonb;
    wanted record;
    part   text;
    parts  jsonb[] := '{}';
    place  tid;
BEGIN
    -- to_jsonb calls a cast to json that the caller may have made for a type of his own, and here with our rights
    IF pg_typeof(key) <> ALL (
        '{smallint,integer,bigint,numeric,text,varchar,bpchar,uuid,date,timestamp,timestamptz,boolean,jsonb}'::regtype[]
    ) THEN
        RAISE EXCEPTION 'a key is no %', pg_typeof(key) USING ERRCODE = 'wrong_object_type',
            HINT = 'cast it to the type of its column, or pass jsonb_build_array(a, b)';
    END IF;
    given := CASE WHEN jsonb_typeof(to_jsonb(key)) = 'array' THEN to_jsonb(key) ELSE jsonb_build_array(key) END;
    SELECT s.id, s.key_columns, s.key_types INTO wanted FROM pgvector_sync.pipeline p
    JOIN pgvector_sync.source s ON s.id = p.source_id WHERE p.name = enqueue.pipeline AND p.state <> 'removing';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no pipeline %', enqueue.pipeline USING ERRCODE = 'undefined_object';
    END IF;
    IF jsonb_array_length(given) <> cardinality(wanted.key_columns) THEN
        RAISE EXCEPTION 'the key of % is (%)', enqueue.pipeline, array_to_string(wanted.key_columns, ', ')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'pass several columns as jsonb_build_array(a, b)';
    END IF;
    FOR i IN 1 .. cardinality(wanted.key_columns) LOOP
        part := given ->> (i - 1);
        IF part IS NULL THEN
            RAISE EXCEPTION 'a key holds no NULL' USING ERRCODE = 'null_value_not_allowed';
        END IF;
        IF jsonb_typeof(given -> (i - 1)) IN ('array', 'object') THEN
            RAISE EXCEPTION 'a key holds no %', jsonb_typeof(given -> (i - 1)) USING ERRCODE = 'invalid_parameter_value',
                HINT = 'pass several columns as jsonb_build_array(a, b)';
        END IF;
        -- the same canonical forms that the triggers write
        parts := parts || CASE
            WHEN wanted.key_types[i] = 'smallint' THEN to_jsonb(part::smallint)
            WHEN wanted.key_types[i] = 'integer' THEN to_jsonb(part::integer)
            WHEN wanted.key_types[i] = 'bigint' THEN to_jsonb(part::bigint)
            WHEN wanted.key_types[i] = 'uuid' THEN to_jsonb(part::uuid::text)
            WHEN wanted.key_types[i] = 'date' THEN to_jsonb(part::date::text)
            WHEN wanted.key_types[i] LIKE 'numeric%' THEN to_jsonb(trim_scale(part::numeric)::text)
            WHEN wanted.key_types[i] = 'boolean' THEN to_jsonb(part::boolean::text)
            WHEN wanted.key_types[i] LIKE 'character(%' THEN to_jsonb(part::bpchar::text)
            WHEN wanted.key_types[i] LIKE 'timestamp% without time zone' THEN to_jsonb(part::timestamp)
            WHEN wanted.key_types[i] LIKE 'timestamp% with time zone' THEN to_jsonb(regexp_replace(
                to_jsonb(timezone(make_interval(), part::timestamptz)) #>> '{}', '([0-9])( BC)?$', E'\\1Z\\2'))
            ELSE to_jsonb(part) END;
    END LOOP;
    INSERT INTO pgvector_sync.outbox (source_id, key) VALUES (wanted.id, to_jsonb(parts)) RETURNING ctid INTO place;
    -- as it is stored, a long key may be compressed, and fit
    IF pg_column_size(parts) > 2000 AND EXISTS (SELECT FROM pgvector_sync.outbox o WHERE o.ctid = place
                                                AND pgvector_sync.key_fault(o.key, cardinality(parts)) IS NOT NULL) THEN
        RAISE EXCEPTION 'this key of % is too long: % bytes', enqueue.pipeline, octet_length(to_jsonb(parts)::text)
            USING ERRCODE = 'program_limit_exceeded', HINT = 'a key holds at most 2,692 bytes, as it is stored';
    END IF;
END
$enqueue$;

REVOKE ALL ON FUNCTION pgvector_sync.enqueue(text, anyelement) FROM PUBLIC;
