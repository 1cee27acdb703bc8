-- How well searches find the nearest rows: a sample of real queries, to measure it with.

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

REVOKE ALL ON pgvector_sync.query_sample FROM PUBLIC;
