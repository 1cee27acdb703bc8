-- Totals, from which the counters of /metrics come, and the history that the status page shows.

-- Adds two histograms: NULL is one of zeros, as are missing elements.
CREATE FUNCTION pgvector_sync.add_each(a bigint[], b bigint[]) RETURNS bigint[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT array_agg(coalesce(x.a, 0) + coalesce(x.b, 0) ORDER BY x.n)
        FROM unnest(a, b) WITH ORDINALITY AS x (a, b, n));

CREATE AGGREGATE pgvector_sync.sum_each(bigint[]) (SFUNC = pgvector_sync.add_each, STYPE = bigint[]);

-- What the batches of a lane have done whose leases are gone. Those of batches in flight are in their leases.
CREATE TABLE pgvector_sync.batch_totals (
    pipeline_id   int NOT NULL,
    lane          text NOT NULL,                               -- or the kind of a run, of which only lost leases count
    batch         uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',  -- one that couldn't count in its lease
    batches       bigint NOT NULL DEFAULT 0,
    leases_lost   bigint NOT NULL DEFAULT 0,
    stored        bigint NOT NULL DEFAULT 0,
    removed       bigint NOT NULL DEFAULT 0,
    absent        bigint NOT NULL DEFAULT 0,
    unchanged     bigint NOT NULL DEFAULT 0,
    superseded    bigint NOT NULL DEFAULT 0,
    parked        bigint NOT NULL DEFAULT 0,
    released      bigint NOT NULL DEFAULT 0,
    backed_off    bigint NOT NULL DEFAULT 0,
    wait_seconds  numeric NOT NULL DEFAULT 0,                  -- exact: a sum of floats may fall when its parts are added in another order
    wait_buckets  bigint[],
    claim_seconds numeric NOT NULL DEFAULT 0,
    claim_buckets bigint[],
    PRIMARY KEY (pipeline_id, lane, batch)
) WITH (fillfactor = 20);

-- Calls of the provider, retries included, noted at the end of each batch. Those of a batch that was killed aren't noted.
CREATE TABLE pgvector_sync.call_totals (
    pipeline_id int NOT NULL,
    outcome     text NOT NULL,                                 -- 'ok', or the class of the failure
    calls       bigint NOT NULL,
    seconds     float8 NOT NULL,
    buckets     bigint[] NOT NULL,
    PRIMARY KEY (pipeline_id, outcome)
) WITH (fillfactor = 20);

-- The state of each pipeline, minute by minute. A periodic job writes it, and deletes what is old.
CREATE TABLE pgvector_sync.history (
    pipeline_id     int NOT NULL,
    at              timestamptz NOT NULL,
    lag_seconds     float8,                                    -- NULL: nothing waited
    waiting         bigint NOT NULL,
    in_flight       bigint NOT NULL,
    dead            bigint NOT NULL,
    source_rows     bigint NOT NULL,                           -- estimated, as in `status`
    fresh_rows      bigint NOT NULL,
    rows_per_second float8 NOT NULL,
    PRIMARY KEY (pipeline_id, at)
);

CREATE INDEX history_at ON pgvector_sync.history (at);

REVOKE ALL ON pgvector_sync.batch_totals, pgvector_sync.call_totals, pgvector_sync.history FROM PUBLIC;
