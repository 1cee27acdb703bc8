"""`Sync`: the verbs of the command line, for applications."""

from __future__ import annotations

from pgvector_sync.client.dead_letters import DeadLetterMethods
from pgvector_sync.client.indexes import IndexMethods
from pgvector_sync.client.pipelines import PipelineMethods
from pgvector_sync.client.rows import RowMethods
from pgvector_sync.client.runs import RunMethods
from pgvector_sync.client.search import SearchMethods


class Sync(SearchMethods, PipelineMethods, RunMethods, DeadLetterMethods, RowMethods, IndexMethods):
    """The pipelines of one database: their state, their runs, their dead letters, and search.

        with Sync() as sync:
            run = sync.reembed("articles", where="updated_at < '2026-01-01'")
            sync.wait(run.run_id)

    database_url: a libpq connection string for the database that has the schema `pgvector_sync`. Default:
        DATABASE_URL.
    settings: replaces the settings of the environment, see docs/configuration.md.
    pool: your own pool of connections to that database, which `embed_query` and `search` then use.

    No connection is opened before the first call, so an instance can be created before a process forks and kept
    for the life of the process. Threads can share it: it opens at most four connections. `close`, or the end of
    a `with` block, closes them.

    Every method raises Refused if the request can't be carried out (an unknown pipeline, a missing grant), with
    the next step in its `hint`; MigrationRefused if the schema is missing or has another version; and
    psycopg.OperationalError while the database is out of reach. The constructor raises ConfigError for an invalid
    configuration.
    """
