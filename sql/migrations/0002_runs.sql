-- Bulk re-embeds and reconciliation: requests, findings and schedules.

-- Options: tokens per day for the bulk lane, US dollars per million tokens, the schedule of reconciliations, and the vector index.
ALTER TABLE pgvector_sync.pipeline
    ADD COLUMN tokens_per_day bigint CHECK (tokens_per_day > 0),
    ADD COLUMN price numeric CHECK (price >= 0),
    ADD COLUMN reconcile jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN vector_index jsonb NOT NULL DEFAULT '{}';

-- Some of the drifted keys, by kind of drift, for users to look at.
ALTER TABLE pgvector_sync.run ADD COLUMN samples jsonb NOT NULL DEFAULT '{}';

-- At most one running reconciliation per pipeline.
CREATE UNIQUE INDEX run_reconcile ON pgvector_sync.run (pipeline_id) WHERE kind = 'reconcile' AND state = 'running';

-- The keys of a run over a list, and the orphans that a reconciliation collects until it has counted all of them.
CREATE TABLE pgvector_sync.run_key (
    run_id bigint NOT NULL,
    key    jsonb NOT NULL CHECK (pgvector_sync.is_key(key)),
    PRIMARY KEY (run_id, key)
);

-- What each reconciliation found. It is kept longer than the run, to show a trend.
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

-- `select pgvector_sync.enqueue('articles', id)` processes a row again, as if it had changed. It writes one event in the
-- caller's transaction; a large load of events goes to the bulk lane. The key is the value of the key column, or a jsonb array
-- of the values of several.
CREATE FUNCTION pgvector_sync.enqueue(pipeline text, key anyelement) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO, YMD' AS $enqueue$
DECLARE
    array_  jsonb;
    source_ record;
    part    text;
    parts   jsonb[] := '{}';
    event   tid;
BEGIN
    -- for other types, to_jsonb could call a cast of the caller's own, here with our rights
    IF pg_typeof(key) <> ALL (
        '{smallint,integer,bigint,numeric,text,varchar,bpchar,uuid,date,timestamp,timestamptz,boolean,jsonb}'::regtype[]
    ) THEN
        RAISE EXCEPTION 'a key can''t be of type %', pg_typeof(key) USING ERRCODE = 'wrong_object_type',
            HINT = 'cast it to the type of its column, or pass jsonb_build_array(a, b)';
    END IF;
    array_ := CASE WHEN jsonb_typeof(to_jsonb(key)) = 'array' THEN to_jsonb(key) ELSE jsonb_build_array(key) END;
    SELECT s.id, s.key_columns, s.key_types INTO source_ FROM pgvector_sync.pipeline p
    JOIN pgvector_sync.source s ON s.id = p.source_id WHERE p.name = enqueue.pipeline AND p.state <> 'removing';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no pipeline %', enqueue.pipeline USING ERRCODE = 'undefined_object';
    END IF;
    IF jsonb_array_length(array_) <> cardinality(source_.key_columns) THEN
        RAISE EXCEPTION 'expected the key of %, (%), got % values', enqueue.pipeline,
            array_to_string(source_.key_columns, ', '), jsonb_array_length(array_)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'pass several columns as jsonb_build_array(a, b)';
    END IF;
    FOR i IN 1 .. cardinality(source_.key_columns) LOOP
        part := array_ ->> (i - 1);
        IF part IS NULL THEN
            RAISE EXCEPTION 'a key can''t contain NULL' USING ERRCODE = 'null_value_not_allowed';
        END IF;
        IF jsonb_typeof(array_ -> (i - 1)) IN ('array', 'object') THEN
            RAISE EXCEPTION 'a key can''t contain an %', jsonb_typeof(array_ -> (i - 1))
                USING ERRCODE = 'invalid_parameter_value', HINT = 'pass several columns as jsonb_build_array(a, b)';
        END IF;
        -- the same canonical forms that the triggers write
        parts := parts || CASE
            WHEN source_.key_types[i] = 'smallint' THEN to_jsonb(part::smallint)
            WHEN source_.key_types[i] = 'integer' THEN to_jsonb(part::integer)
            WHEN source_.key_types[i] = 'bigint' THEN to_jsonb(part::bigint)
            WHEN source_.key_types[i] = 'uuid' THEN to_jsonb(part::uuid::text)
            WHEN source_.key_types[i] = 'date' THEN to_jsonb(part::date::text)
            WHEN source_.key_types[i] LIKE 'numeric%' THEN to_jsonb(trim_scale(part::numeric)::text)
            WHEN source_.key_types[i] = 'boolean' THEN to_jsonb(part::boolean::text)
            WHEN source_.key_types[i] LIKE 'character(%' THEN to_jsonb(part::bpchar::text)
            WHEN source_.key_types[i] LIKE 'timestamp% without time zone' THEN to_jsonb(part::timestamp)
            WHEN source_.key_types[i] LIKE 'timestamp% with time zone' THEN to_jsonb(regexp_replace(
                to_jsonb(timezone(make_interval(), part::timestamptz)) #>> '{}', '([0-9])( BC)?$', E'\\1Z\\2'))
            ELSE to_jsonb(part) END;
    END LOOP;
    INSERT INTO pgvector_sync.outbox (source_id, key) VALUES (source_.id, to_jsonb(parts)) RETURNING ctid INTO event;
    -- a long key may fit after all, since it is stored compressed
    IF pg_column_size(parts) > 2000 AND EXISTS (SELECT FROM pgvector_sync.outbox o WHERE o.ctid = event
                                                AND pgvector_sync.key_fault(o.key, cardinality(parts)) IS NOT NULL) THEN
        RAISE EXCEPTION 'the key of % is too long: % bytes', enqueue.pipeline, octet_length(to_jsonb(parts)::text)
            USING ERRCODE = 'program_limit_exceeded', HINT = 'a key may have at most 2,692 bytes as it is stored';
    END IF;
END
$enqueue$;

REVOKE ALL ON FUNCTION pgvector_sync.enqueue(text, anyelement) FROM PUBLIC;
