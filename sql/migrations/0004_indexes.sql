-- Builds of vector indexes: what was requested, how far it is, and under which circumstances an index was built.

-- A build is carried out by one server process, which holds the advisory lock `lock_key` until its session ends, even if our own
-- process dies. Whoever takes over a build takes a new key; every change of the state requires the current one.
CREATE TABLE pgvector_sync.index_build (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline_id  int NOT NULL,
    state        text NOT NULL DEFAULT 'waiting'
                 CHECK (state IN ('waiting', 'building', 'swapping', 'done', 'failed', 'cancelled')),
    reason       text,                                         -- why it waits, has failed or was cancelled
    definition   jsonb NOT NULL,                               -- as in the section `index`: method, storage and parameters
    window_begin time CHECK (window_begin < '24:00'),          -- of the daily window in UTC; NULL: at any time
    window_end   time CHECK (window_end < '24:00'),
    replace      boolean NOT NULL,                             -- whether it replaces an index of the same kind
    declared     boolean NOT NULL,                             -- whether the file, not a person, has requested it
    memory_bytes bigint CHECK (memory_bytes > 0),              -- for the graph; NULL: what the preflight decides
    workers      int CHECK (workers >= 0),                     -- parallel workers; NULL: what the server and the preflight decide
    requested_by text NOT NULL DEFAULT session_user,
    requested_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    visible_at   timestamptz NOT NULL DEFAULT statement_timestamp(),
    attempts     int NOT NULL DEFAULT 0,
    lock_key     bigint,
    index_name   text,                                         -- its name once it is complete
    replaces     text,                                         -- the index that is dropped then
    left_over    boolean NOT NULL DEFAULT false,               -- whether an index under the build's own name may exist
    phase        text,                                         -- as in pg_stat_progress_create_index, when it was last noted
    phase_since  timestamptz,
    done_share   float8,
    noted_at     timestamptz,
    started_at   timestamptz,                                  -- of the last attempt
    ended_at     timestamptz,
    rows         bigint,                                       -- those that the finished index contains
    bytes        bigint,
    parameters   text[],
    pgvector     text,                                         -- the version of the library
    used_memory  bigint,                                       -- maintenance_work_mem of the last attempt, in bytes
    changes      bigint,                                       -- vectors that the pipeline had stored and removed when the attempt started
    CHECK ((window_begin IS NULL) = (window_end IS NULL)),
    -- Our programs read all builds in one statement: what they can't read would stop more than one pipeline.
    CHECK (jsonb_typeof(definition) = 'object' AND definition - '{method,storage,m,ef_construction,lists}'::text[] = '{}'
           AND definition ->> 'method' IN ('hnsw', 'ivfflat')
           AND coalesce(definition ->> 'storage', 'vector') IN ('vector', 'halfvec', 'bit')
           AND coalesce(definition ->> 'm', '2') ~ '^[0-9]{1,3}$' AND coalesce(definition ->> 'ef_construction', '4') ~ '^[0-9]{1,4}$'
           AND coalesce(definition ->> 'lists', '1') ~ '^[0-9]{1,5}$')
);

-- At most one build per pipeline.
CREATE UNIQUE INDEX index_build_active ON pgvector_sync.index_build (pipeline_id) WHERE state IN ('waiting', 'building', 'swapping');

CREATE INDEX index_build_pipeline ON pgvector_sync.index_build (pipeline_id, id);

REVOKE ALL ON pgvector_sync.index_build FROM PUBLIC;
