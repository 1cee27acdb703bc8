-- The tables of pgvector-sync. `outbox` and `work` are hot: few indexes, no foreign keys, tight autovacuum.

CREATE TABLE pgvector_sync.provider (
    name                text PRIMARY KEY,
    dialect             text NOT NULL DEFAULT 'openai',        -- how it is spoken to, see embedding/dialects
    base_url            text,                                  -- NULL where the dialect has none (`local`)
    api_key_env         text,                                  -- the variable's name, never the secret
    requests_per_minute int CHECK (requests_per_minute > 0),
    tokens_per_minute   int CHECK (tokens_per_minute > 0),
    send_dimensions     boolean NOT NULL DEFAULT true,
    encoding            text NOT NULL DEFAULT 'base64' CHECK (encoding IN ('base64', 'float'))
);

-- One row a user's table, however many pipelines read it: the triggers name a source, and the drain fans out.
CREATE TABLE pgvector_sync.source (
    id                 int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schema_name        text NOT NULL,
    table_name         text NOT NULL,
    key_columns        text[] NOT NULL,
    key_types          text[] NOT NULL,                        -- as format_type prints them
    tracked_columns    text[] NOT NULL DEFAULT '{}',           -- what its pipelines read
    capture_replicated boolean NOT NULL DEFAULT false,         -- one of its pipelines asks for it
    UNIQUE (schema_name, table_name)
);

CREATE TABLE pgvector_sync.pipeline (
    id            int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text NOT NULL UNIQUE,
    source_id     int NOT NULL REFERENCES pgvector_sync.source,
    target_schema text NOT NULL,
    target_table  text NOT NULL,
    text_sql      text NOT NULL,                               -- pinned: every name qualified
    where_sql     text,
    text_given    text NOT NULL,                               -- as the file spells them
    where_given   text,
    read_columns  text[] NOT NULL,                             -- what key, text and where read
    needs         jsonb NOT NULL DEFAULT '[]',                 -- what text and where name outside of pg_catalog
    provider      text NOT NULL REFERENCES pgvector_sync.provider,
    model         text NOT NULL,
    dimensions    int NOT NULL CHECK (dimensions BETWEEN 1 AND 16000),
    chunking      text,
    metric        text NOT NULL CHECK (metric IN ('cosine', 'l2', 'inner_product')),
    vector_type   text NOT NULL CHECK (vector_type IN ('vector', 'halfvec')),
    batch_size    int CHECK (batch_size > 0),
    capture_replicated boolean NOT NULL DEFAULT false,
    spec_version  bigint NOT NULL DEFAULT 1,
    state         text NOT NULL DEFAULT 'active'
                  CHECK (state IN ('active', 'cooling_down', 'misconfigured', 'paused', 'removing')),
    reason        text,
    retry_at      timestamptz,
    failures      int NOT NULL DEFAULT 0,                      -- consecutive ones of the provider
    problem       text,                                        -- the schema watch: what is not as the pipeline needs it
    problem_stops boolean NOT NULL DEFAULT false,              -- nothing can be embedded until it is repaired
    recheck       boolean NOT NULL DEFAULT false,              -- changes may have been missed: compare all texts
    known_table   oid,                                         -- the source that all vectors are known to come from
    created_at    timestamptz NOT NULL DEFAULT statement_timestamp(),
    UNIQUE (target_schema, target_table),
    CHECK (problem IS NOT NULL OR NOT problem_stops)
);

-- "This key is dirty." Append-only, written by the triggers inside the application's transaction. No constraint here that
-- its statement could violate: after a logical replication upgrade the sequence begins anew, and ids repeat.
CREATE TABLE pgvector_sync.outbox (
    id          bigint GENERATED ALWAYS AS IDENTITY,
    source_id   int NOT NULL,
    key         jsonb,                                         -- NULL: the table was truncated, sweep the targets; or,
                                                               -- with an error_class, a key could not be read
    xid         xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    error_class text                                           -- set: parked here, because it can't become work
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_insert_scale_factor = 0.2, autovacuum_vacuum_cost_delay = 0);

-- Without a key of its own the table could not be drained while it is published.
ALTER TABLE pgvector_sync.outbox REPLICA IDENTITY FULL;

-- What the drain reads in this order: parked events, however many, are not in its way.
CREATE INDEX outbox_id ON pgvector_sync.outbox (id) WHERE error_class IS NULL;

-- Sweeps: few or none, and every drain asks for them.
CREATE INDEX outbox_sweep ON pgvector_sync.outbox (id) WHERE key IS NULL AND error_class IS NULL;

CREATE INDEX outbox_parked ON pgvector_sync.outbox (source_id) WHERE error_class IS NOT NULL;

-- What a key is: an array of whole numbers and strings. With it on every table that a key is read from, whoever wrote it, no
-- program of ours meets another.
CREATE FUNCTION pgvector_sync.is_key(key jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN key::text COLLATE "C" ~ '^\[(-?[0-9]{1,19}|"([^"\\]|\\.)*")(, (-?[0-9]{1,19}|"([^"\\]|\\.)*"))*\]$';

-- Why an event's key can't become work; NULL where it can. 2,692 bytes, as it is stored, leave room for the rest of an
-- entry in the index of work. Never looked into before its length is known.
CREATE FUNCTION pgvector_sync.key_fault(key jsonb, parts int) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN pg_column_size(key) > 2692 THEN 'key_refused_54000'
            WHEN NOT pgvector_sync.is_key(key) OR jsonb_array_length(key) <> parts THEN 'key_malformed' END;

CREATE TABLE pgvector_sync.work (
    pipeline_id           int NOT NULL,
    key                   jsonb NOT NULL CHECK (pgvector_sync.is_key(key)),
    generation            bigint NOT NULL DEFAULT 1,
    lane                  text NOT NULL CHECK (lane IN ('live', 'bulk')),
    waiting_since         timestamptz NOT NULL,
    visible_at            timestamptz NOT NULL,
    attempts              smallint NOT NULL DEFAULT 0,
    superseded            smallint NOT NULL DEFAULT 0,         -- in a row; from the second on it backs off
    lease                 uuid,                                -- held by `lease`, until that is lost
    run_id                bigint,
    force                 boolean NOT NULL DEFAULT false,
    parked_at             timestamptz,                         -- NULL: alive
    verdict               text CHECK (verdict IN ('dead', 'discarded')),
    attempted_fingerprint bytea,
    attempted_generation  bigint,
    failed_fingerprint    bytea,
    error_class           text,
    error_message         text,
    PRIMARY KEY (pipeline_id, key),
    CHECK (parked_at IS NULL OR (verdict IS NOT NULL AND lease IS NULL)),
    -- else what is computed from them fails, for all rows at once
    CHECK (isfinite(waiting_since) AND isfinite(visible_at) AND (parked_at IS NULL OR isfinite(parked_at)))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_analyze_scale_factor = 0.2, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX work_due ON pgvector_sync.work (pipeline_id, lane, visible_at) WHERE lease IS NULL AND parked_at IS NULL;
CREATE INDEX work_leased ON pgvector_sync.work (pipeline_id, lane, lease) WHERE lease IS NOT NULL;
CREATE INDEX work_parked ON pgvector_sync.work (pipeline_id) WHERE parked_at IS NOT NULL;
CREATE INDEX work_run ON pgvector_sync.work (run_id) WHERE run_id IS NOT NULL AND parked_at IS NULL;

-- One row per batch, and per run that a worker carries out: who holds its rows, and for how long. It is renewed while the
-- batch lives, never beyond `ends_at`. A lease that wasn't renewed is suspected first: after an outage of the database a
-- living worker has time to renew it. Once lost it stays lost. It outlives the rows that name it.
CREATE TABLE pgvector_sync.lease (
    id           uuid PRIMARY KEY,
    pipeline_id  int NOT NULL,
    lane         text NOT NULL,                                -- as it was claimed; or the kind of a run
    holder       text NOT NULL,                                -- host:family:pid, see sync/keeper.py
    taken_at     timestamptz NOT NULL DEFAULT statement_timestamp(),
    expires_at   timestamptz NOT NULL,
    ends_at      timestamptz NOT NULL,
    suspected_at timestamptz,
    lost_at      timestamptz
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);

CREATE INDEX lease_pipeline ON pgvector_sync.lease (pipeline_id);

-- Backfills, bulk re-embeds and reconciliations, past and present. Whoever asks writes the row; a message holds its id.
CREATE TABLE pgvector_sync.run (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline_id   int NOT NULL,
    kind          text NOT NULL CHECK (kind IN ('backfill', 'reembed', 'reconcile')),
    state         text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'finished', 'cancelled', 'failed')),
    requested_by  text NOT NULL DEFAULT session_user,
    options       jsonb NOT NULL DEFAULT '{}',
    watermark     jsonb CHECK (pgvector_sync.is_key(watermark)),  -- the last key that was enqueued
    walked        boolean NOT NULL DEFAULT false,              -- the watermark has reached the end
    rows_total    bigint,                                      -- an estimate, at the start
    rows_seen     bigint NOT NULL DEFAULT 0,
    rows_enqueued bigint NOT NULL DEFAULT 0,
    counts        jsonb NOT NULL DEFAULT '{}',
    lease         uuid,
    visible_at    timestamptz NOT NULL DEFAULT statement_timestamp(),
    reason        text,
    horizon       xid8 NOT NULL DEFAULT pg_snapshot_xmin(pg_current_snapshot()),  -- it sees all transactions before this
    started_at    timestamptz NOT NULL DEFAULT statement_timestamp(),
    finished_at   timestamptz
);

CREATE INDEX run_running ON pgvector_sync.run (pipeline_id) WHERE state = 'running';

CREATE TABLE pgvector_sync.usage (
    pipeline_id  int NOT NULL,
    day          date NOT NULL,
    requests     bigint NOT NULL DEFAULT 0,
    tokens       bigint NOT NULL DEFAULT 0,
    inputs       bigint NOT NULL DEFAULT 0,
    saved_inputs bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (pipeline_id, day)
);

-- Rows acknowledged, by the minute: the rate that `status` shows. Old minutes go with the maintenance tick.
CREATE TABLE pgvector_sync.throughput (
    pipeline_id int NOT NULL,
    minute      timestamptz NOT NULL,
    rows        bigint NOT NULL,
    PRIMARY KEY (pipeline_id, minute)
);

CREATE TABLE pgvector_sync.tick (
    name       text PRIMARY KEY,
    lease      uuid,
    visible_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    last_at    timestamptz
);

-- A row per worker and `sync` that runs, renewed every few seconds; one that died stays for a while, and counts for nothing.
CREATE TABLE pgvector_sync.worker (
    id      uuid PRIMARY KEY,
    name    text NOT NULL,
    slots   int NOT NULL,                                      -- batches at once
    seen_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Rows to be locked: 0 by the drain, and by `apply` and `remove`, which keep it out; the id of a pipeline by its claims. Not
-- advisory locks, which anybody who can connect may hold: these need UPDATE on this table.
CREATE TABLE pgvector_sync.lock (id int PRIMARY KEY);

INSERT INTO pgvector_sync.lock VALUES (0);

REVOKE ALL ON SCHEMA pgvector_sync FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA pgvector_sync FROM PUBLIC;
