-- The tables of pgvector-sync. `outbox` and `work` are hot: few indexes, no foreign keys, tight autovacuum.

CREATE TABLE pgvector_sync.provider (
    name                text PRIMARY KEY,
    dialect             text NOT NULL DEFAULT 'openai',        -- the API it speaks, see embedding/dialects
    base_url            text,                                  -- NULL if the dialect has none (`local`)
    api_key_env         text,                                  -- the name of the variable, never the secret
    requests_per_minute int CHECK (requests_per_minute > 0),
    tokens_per_minute   int CHECK (tokens_per_minute > 0),
    max_inputs          int CHECK (max_inputs > 0),            -- limits per request; NULL: what is known of the dialect
    max_request_tokens  int CHECK (max_request_tokens > 0),
    max_input_tokens    int CHECK (max_input_tokens > 0),
    dimensions_parameter text CHECK (dimensions_parameter IN ('dimensions', 'output_dimension', 'none')),
    encoding            text CHECK (encoding IN ('base64', 'float', 'none')),
    headers             jsonb NOT NULL DEFAULT '{}',           -- never a secret
    extra_body          jsonb NOT NULL DEFAULT '{}',
    ca_file             text,
    proxy               text                                   -- without user and password
);

-- What limits the requests to a provider's model, learned from its answers (worker/pgvector_sync/model/learned.py). Losing it
-- costs a few calls. `version` guards updates: of batches that started with the same knowledge, the first one's counts.
CREATE TABLE pgvector_sync.learned (
    provider         text NOT NULL REFERENCES pgvector_sync.provider ON DELETE CASCADE,
    model            text NOT NULL,
    version          bigint NOT NULL,
    max_inputs       int CHECK (max_inputs > 0),
    refused_inputs   int,
    max_bytes        int CHECK (max_bytes > 0),
    refused_bytes    int,
    bytes_per_second int CHECK (bytes_per_second > 0),
    slow_bytes       int,
    parallel         int CHECK (parallel > 0),
    limited_bytes    int,
    failed_trials    int NOT NULL,
    retry_at         timestamptz NOT NULL,                     -- when larger sizes may be tried
    PRIMARY KEY (provider, model)
);

-- One row per user table, however many pipelines read it: triggers refer to a source, and the drain fans out.
CREATE TABLE pgvector_sync.source (
    id                 int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schema_name        text NOT NULL,
    table_name         text NOT NULL,
    key_columns        text[] NOT NULL,
    key_types          text[] NOT NULL,                        -- as format_type prints them
    tracked_columns    text[] NOT NULL DEFAULT '{}',           -- the columns its pipelines read
    capture_replicated boolean NOT NULL DEFAULT false,         -- whether any of its pipelines requires it
    UNIQUE (schema_name, table_name)
);

CREATE TABLE pgvector_sync.pipeline (
    id            int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text NOT NULL UNIQUE,
    source_id     int NOT NULL REFERENCES pgvector_sync.source,
    target_schema text NOT NULL,
    target_table  text NOT NULL,
    text_sql      text NOT NULL,                               -- pinned: every name is qualified
    where_sql     text,
    text_given    text NOT NULL,                               -- as written in the file
    where_given   text,
    read_columns  text[] NOT NULL,                             -- the columns that key, text and where read
    needs         jsonb NOT NULL DEFAULT '[]',                 -- the objects outside pg_catalog that they need
    provider      text NOT NULL REFERENCES pgvector_sync.provider,
    dialect       text NOT NULL DEFAULT 'openai',              -- the provider's, as of the vectors that are meant
    model         text NOT NULL,
    dimensions    int NOT NULL CHECK (dimensions BETWEEN 1 AND 16000),
    chunking      text,
    document      jsonb NOT NULL DEFAULT '{}',                 -- prefix and parameters of documents
    query         jsonb NOT NULL DEFAULT '{}',                 -- and of queries
    metric        text NOT NULL CHECK (metric IN ('cosine', 'l2', 'inner_product')),
    vector_type   text NOT NULL CHECK (vector_type IN ('vector', 'halfvec')),
    batch_size    int CHECK (batch_size > 0),
    capture_replicated boolean NOT NULL DEFAULT false,
    spec_version  bigint NOT NULL DEFAULT 1,
    state         text NOT NULL DEFAULT 'active'
                  CHECK (state IN ('active', 'cooling_down', 'misconfigured', 'paused', 'removing')),
    reason        text,
    retry_at      timestamptz,
    failures      int NOT NULL DEFAULT 0,                      -- consecutive failures of the provider
    problem       text,                                        -- what the schema watch found
    problem_stops boolean NOT NULL DEFAULT false,              -- nothing can be embedded until it is fixed
    recheck       boolean NOT NULL DEFAULT false,              -- changes may have been missed: a deep reconciliation is due
    known_table   oid,                                         -- the table that all vectors are known to come from
    created_at    timestamptz NOT NULL DEFAULT statement_timestamp(),
    UNIQUE (target_schema, target_table),
    CHECK (problem IS NOT NULL OR NOT problem_stops),
    -- Our programs read both, of all pipelines, in one statement: what they can't read would stop more than one pipeline.
    CHECK (jsonb_typeof(document) = 'object' AND document - '{prefix,body}'::text[] = '{}'
           AND jsonb_typeof(coalesce(document -> 'prefix', '""')) = 'string' AND length(document ->> 'prefix') <= 4000
           AND jsonb_typeof(coalesce(document -> 'body', '{}')) = 'object' AND NOT document @? '$.**{10 to last}'),
    CHECK (jsonb_typeof(query) = 'object' AND query - '{prefix,body,model}'::text[] = '{}'
           AND jsonb_typeof(coalesce(query -> 'prefix', '""')) = 'string' AND length(query ->> 'prefix') <= 4000
           AND jsonb_typeof(coalesce(query -> 'model', '""')) = 'string'
           AND jsonb_typeof(coalesce(query -> 'body', '{}')) = 'object' AND NOT query @? '$.**{10 to last}')
);

-- "This key has changed." Append-only, written by the triggers within the application's transaction, so it has one index, and
-- what is rare has tables of its own. No constraint that the application's statement could violate: after an upgrade by
-- logical replication the sequence restarts, and ids repeat.
CREATE TABLE pgvector_sync.outbox (
    id          bigint GENERATED ALWAYS AS IDENTITY,
    source_id   int NOT NULL,
    key         jsonb NOT NULL,
    xid         xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at          timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_insert_scale_factor = 0.2, autovacuum_vacuum_cost_delay = 0);

-- The drain reads events in this order.
CREATE INDEX outbox_id ON pgvector_sync.outbox (id);

-- "The table was truncated": the drain sweeps the targets. Every look for work reads this table, which has few rows or none.
CREATE TABLE pgvector_sync.sweep (
    source_id   int NOT NULL,
    xid         xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at          timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Events that can't become work.
CREATE TABLE pgvector_sync.parked (
    source_id   int NOT NULL,
    key         jsonb,                                         -- NULL: it couldn't be read
    error_class text NOT NULL,
    xid         xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at          timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX parked_source ON pgvector_sync.parked (source_id, at);

-- The tables have no primary key: without this no row could be deleted while they are published.
ALTER TABLE pgvector_sync.outbox REPLICA IDENTITY FULL;
ALTER TABLE pgvector_sync.sweep REPLICA IDENTITY FULL;
ALTER TABLE pgvector_sync.parked REPLICA IDENTITY FULL;

-- Whether a value is a key: an array of integers and strings. Every table from which a key is read has this CHECK, so that
-- our programs never read anything else.
CREATE FUNCTION pgvector_sync.is_key(key jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN key::text COLLATE "C" ~ '^\[(-?[0-9]{1,19}|"([^"\\]|\\.)*")(, (-?[0-9]{1,19}|"([^"\\]|\\.)*"))*\]$';

-- Why an event's key can't become work; NULL if it can. 2,692 stored bytes leave room for the rest of an entry in the
-- index of work. The length is checked first: a long value is never parsed.
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
    superseded            smallint NOT NULL DEFAULT 0,         -- consecutive times; from the second on it backs off
    lease                 uuid,                                -- the lease that holds it, until that is lost
    run_id                bigint,
    force                 boolean NOT NULL DEFAULT false,
    parked_at             timestamptz,                         -- NULL: not parked
    verdict               text CHECK (verdict IN ('dead', 'discarded')),
    attempted_fingerprint bytea,
    attempted_generation  bigint,
    failed_fingerprint    bytea,
    error_class           text,
    error_message         text,
    PRIMARY KEY (pipeline_id, key),
    CHECK (parked_at IS NULL OR (verdict IS NOT NULL AND lease IS NULL)),
    -- arithmetic on an infinite time would fail for all rows at once
    CHECK (isfinite(waiting_since) AND isfinite(visible_at) AND (parked_at IS NULL OR isfinite(parked_at)))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_analyze_scale_factor = 0.2, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX work_due ON pgvector_sync.work (pipeline_id, lane, visible_at) WHERE lease IS NULL AND parked_at IS NULL;
CREATE INDEX work_leased ON pgvector_sync.work (pipeline_id, lane, lease) WHERE lease IS NOT NULL;
-- With the class, so that dead letters are counted without reading them.
CREATE INDEX work_parked ON pgvector_sync.work (pipeline_id, verdict, error_class) WHERE parked_at IS NOT NULL;
-- The oldest dead letters are listed without sorting all of them.
CREATE INDEX work_parked_at ON pgvector_sync.work (pipeline_id, parked_at) WHERE parked_at IS NOT NULL;
CREATE INDEX work_run ON pgvector_sync.work (run_id) WHERE run_id IS NOT NULL AND parked_at IS NULL;

-- One row per batch, and per run that a worker carries out: which process holds the rows, and for how long. A lease is
-- renewed while the batch runs, but never beyond `ends_at`. If it isn't renewed, it is suspected before it is lost: after an
-- outage of the database a live worker has time to renew it. A lost lease stays lost. It outlives the rows that refer to it.
CREATE TABLE pgvector_sync.lease (
    id           uuid PRIMARY KEY,
    pipeline_id  int NOT NULL,
    lane         text NOT NULL,                                -- the lane when it was claimed, or the kind of a run
    holder       text NOT NULL,                                -- host:family:pid, see runtime/keeper.py
    taken_at     timestamptz NOT NULL DEFAULT statement_timestamp(),
    expires_at   timestamptz NOT NULL,
    ends_at      timestamptz NOT NULL,
    suspected_at timestamptz,
    lost_at      timestamptz,
    -- What its batch has done so far, counted by the transactions that do it. When the lease goes, it is added to the totals
    -- (0003_metrics.sql). So these counts are exact even if a worker is killed, and batches don't wait for each other's.
    stored       int NOT NULL DEFAULT 0,
    removed      int NOT NULL DEFAULT 0,
    absent       int NOT NULL DEFAULT 0,
    unchanged    int NOT NULL DEFAULT 0,
    superseded   int NOT NULL DEFAULT 0,
    parked       int NOT NULL DEFAULT 0,
    released     int NOT NULL DEFAULT 0,
    backed_off   int NOT NULL DEFAULT 0,
    wait_seconds numeric NOT NULL DEFAULT 0,                   -- from the changes to their acknowledgement, in total
    wait_buckets bigint[],                                     -- how many took at most so long, see store/totals.py
    claim_seconds numeric                                      -- from the start of the claim until its rows were found
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);

CREATE INDEX lease_pipeline ON pgvector_sync.lease (pipeline_id);

-- Backfills, bulk re-embeds and reconciliations, past and present. The row is the request; messages hold only its id.
CREATE TABLE pgvector_sync.run (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline_id   int NOT NULL,
    kind          text NOT NULL CHECK (kind IN ('backfill', 'reembed', 'reconcile')),
    state         text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'finished', 'cancelled', 'failed')),
    requested_by  text NOT NULL DEFAULT session_user,
    options       jsonb NOT NULL DEFAULT '{}',
    watermark     jsonb CHECK (pgvector_sync.is_key(watermark)),  -- the last key that was enqueued
    walked        boolean NOT NULL DEFAULT false,              -- the watermark has reached the end
    rows_total    bigint,                                      -- estimated at the start
    rows_seen     bigint NOT NULL DEFAULT 0,
    rows_enqueued bigint NOT NULL DEFAULT 0,
    counts        jsonb NOT NULL DEFAULT '{}',
    lease         uuid,
    visible_at    timestamptz NOT NULL DEFAULT statement_timestamp(),
    reason        text,
    traceparent   text,                                        -- the span that has caused it, as in W3C Trace Context
    horizon       xid8 NOT NULL DEFAULT pg_snapshot_xmin(pg_current_snapshot()),  -- it sees all transactions before this one
    started_at    timestamptz NOT NULL DEFAULT statement_timestamp(),
    finished_at   timestamptz
);

CREATE INDEX run_running ON pgvector_sync.run (pipeline_id) WHERE state = 'running';

CREATE TABLE pgvector_sync.usage (
    pipeline_id  int NOT NULL,
    day          date NOT NULL,
    requests     bigint NOT NULL DEFAULT 0,
    tokens       bigint NOT NULL DEFAULT 0,
    usd          numeric NOT NULL DEFAULT 0,                   -- at the price of the time; 0 if it isn't known
    inputs       bigint NOT NULL DEFAULT 0,
    saved_unchanged  bigint NOT NULL DEFAULT 0,                -- inputs that needed no call: the row's vector is current,
    saved_equal      bigint NOT NULL DEFAULT 0,                -- another row of the batch has the same text,
    saved_stored     bigint NOT NULL DEFAULT 0,                -- or another row's vector of the same text is stored
    truncated_inputs bigint NOT NULL DEFAULT 0,                -- longer than what the model reads
    PRIMARY KEY (pipeline_id, day)
);

-- Acknowledged rows per minute, for the rate that `status` shows. Maintenance deletes old minutes.
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

-- One row per running worker and `sync`, renewed every few seconds. The row of a dead one stays for a while, and isn't counted.
CREATE TABLE pgvector_sync.worker (
    id      uuid PRIMARY KEY,
    name    text NOT NULL,
    slots   int NOT NULL,                                      -- batches it can process at once
    seen_at timestamptz NOT NULL,
    relayed_at timestamptz                                     -- when it last looked for work, as the elected relay
) WITH (fillfactor = 50);

-- Rows that serve as locks: row 0 for the drain, and for `apply` and `remove`, which exclude it; the id of a pipeline for its
-- claims. Advisory locks could be held by every role that can connect; these require UPDATE on this table.
CREATE TABLE pgvector_sync.lock (id int PRIMARY KEY);

INSERT INTO pgvector_sync.lock VALUES (0);

REVOKE ALL ON SCHEMA pgvector_sync FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA pgvector_sync FROM PUBLIC;
