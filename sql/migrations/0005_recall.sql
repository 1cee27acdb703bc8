-- How well searches find the nearest rows: measurements over time, and a sample of real queries to measure it with.

-- Vectors of queries, written only where PGVECTOR_SYNC_SAMPLE_QUERIES is set. Never their texts; but a vector reveals much about
-- its text, so a monitor doesn't see them. An array rather than a vector, whose type may move to another schema.
CREATE TABLE pgvector_sync.query_sample (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline_id  int NOT NULL,
    at           timestamptz NOT NULL DEFAULT statement_timestamp(),
    spec_version bigint NOT NULL,
    model        text NOT NULL,
    vector       real[] NOT NULL CHECK (cardinality(vector) BETWEEN 1 AND 16000)
);

CREATE INDEX query_sample_of_pipeline ON pgvector_sync.query_sample (pipeline_id, id DESC);

-- Measured recall, one row per setting of the index. `changes` says how much was written meanwhile.
CREATE TABLE pgvector_sync.recall (
    pipeline_id int NOT NULL,
    at          timestamptz NOT NULL DEFAULT statement_timestamp(),
    index_name  text NOT NULL,
    filenode    bigint NOT NULL,                               -- of the index; another one after each build
    setting     text NOT NULL CHECK (setting IN ('hnsw.ef_search', 'ivfflat.probes')),
    value       int NOT NULL,
    is_default  boolean NOT NULL,                              -- what `search` uses at least, and others by default
    is_used     boolean NOT NULL,                              -- what `search` uses since this measurement
    k           int NOT NULL,
    queries     int NOT NULL,
    source      text NOT NULL CHECK (source IN ('rows', 'logged')),
    recall      float8 NOT NULL,
    low         float8 NOT NULL,                               -- the bounds of an interval of 95 %
    high        float8 NOT NULL,
    p5          float8 NOT NULL,
    target      float8 NOT NULL,                               -- the recall to reach, as it was declared
    rows        bigint NOT NULL,
    changes     bigint NOT NULL,                               -- vectors that workers had stored and removed so far
    PRIMARY KEY (pipeline_id, at, value)
);

-- The last attempt of each pipeline to measure. The process that inserts or takes over the row measures.
CREATE TABLE pgvector_sync.recall_attempt (
    pipeline_id int PRIMARY KEY,
    lease       uuid NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT statement_timestamp(),
    ended_at    timestamptz,
    filenodes   bigint[] NOT NULL,                             -- of the vector indexes when it started
    reason      text                                           -- why it couldn't be measured
);

-- What `search` uses, from the last measurement that has reached the target. An application reads it with the pipeline.
ALTER TABLE pgvector_sync.pipeline
    ADD COLUMN ef_search int CHECK (ef_search BETWEEN 1 AND 1000),
    ADD COLUMN probes int CHECK (probes BETWEEN 1 AND 32768);

REVOKE ALL ON pgvector_sync.query_sample, pgvector_sync.recall, pgvector_sync.recall_attempt FROM PUBLIC;
