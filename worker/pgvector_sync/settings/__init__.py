"""The settings of a process, with their defaults. They are read from the environment and from `.env`.

`docs/configuration.md` has the same defaults as a table; a test keeps the two in step.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from datetime import timedelta
from difflib import get_close_matches
from functools import cache

from dotenv import dotenv_values
from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from pgvector_sync.errors import ConfigError
from pgvector_sync.settings.database_url import address_of, libpq_url
from pgvector_sync.settings.env_file import ENV_FILE, require_own_env_file
from pgvector_sync.settings.values import AbsolutePaths, Duration, Hosts, Token
from pgvector_sync.settings.variables import PREFIX, variable

EMBEDDED_CLUSTER = "pgvector_sync_embedded"
"""The `cluster_name` of an embedded Postgres."""
SHORTEST_SILENCE, LONGEST_SILENCE = timedelta(seconds=5), timedelta(seconds=30)
"""The bounds of `Settings.silence`."""
LONGEST_PAGE = timedelta(seconds=10)
"""The upper bound of `Settings.page_limit`."""


def _named(name: str) -> AliasChoices:
    """The alias of a variable without our prefix, whose name Postgres, Redis, Celery or openai users know."""
    return AliasChoices(name, name.lower())


class Settings(BaseSettings):
    """The settings of a process, frozen and validated at the start.

    A variable has the prefix `PGVECTOR_SYNC_`, unless its field has an alias.
    """

    model_config = SettingsConfigDict(
        env_prefix="PGVECTOR_SYNC_",
        env_file=ENV_FILE,
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    database_url: SecretStr | None = Field(None, validation_alias=_named("DATABASE_URL"))
    build_database_url: SecretStr | None = None
    """The connection for building indexes: directly to the server, as the targets' owner. None: DATABASE_URL."""
    redis_url: SecretStr | None = Field(None, validation_alias=_named("REDIS_URL"))
    celery_broker_url: SecretStr | None = Field(None, validation_alias=_named("CELERY_BROKER_URL"))
    redis_prefix: str = Field("", pattern=r"^[\w.:-]*$", max_length=64)
    """The prefix of every key and queue, for deployments that share a Redis database."""
    openai_base_url: str | None = Field(None, validation_alias=_named("OPENAI_BASE_URL"))
    allowed_hosts: Hosts = ""
    """Comma-separated hosts that a worker may send texts to, besides those of the built-in providers (with their
    own keys) and that of OPENAI_BASE_URL: `host` or `host:port`, with a scheme to allow http; `=VARIABLE` after it
    binds a key to the host."""
    ca_files: AbsolutePaths = ""
    """Comma-separated absolute paths of PEM files that `ca_file` of a provider may name."""
    log_format: str = Field("console", pattern="^(console|json)$")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")

    lease: Duration = timedelta(seconds=15)
    """How long after its last renewal a lease is lost, so that another worker can take its rows."""
    deadline: Duration = timedelta(seconds=90)
    """The maximum duration of a batch. Its lease ends soon after."""
    row_timeout: Duration = timedelta(seconds=5)
    """How long `text` and `where` may take for one row."""
    attempts: int = Field(5, ge=1, le=50)
    backoff_first: Duration = timedelta(seconds=2)
    backoff_longest: Duration = timedelta(minutes=10)
    poll: Duration = timedelta(milliseconds=250)
    """The longest pause between two looks for work, while nothing happens (`engine.pace`)."""
    live_batch_size: int = Field(256, ge=1, le=10_000)
    bulk_batch_size: int = Field(512, ge=1, le=10_000)
    in_flight_batches: int = Field(8, ge=1, le=1000)
    """The maximum number of a pipeline's batches that are processed at once."""
    bulk_depth_rows: int = Field(20_000, ge=1)
    """How many rows a run may enqueue ahead of the workers."""
    drain_rows: int = Field(1_000, ge=1)
    """The maximum number of outbox events moved per transaction."""
    burst_rows: int = Field(500, ge=2)
    """From this many events per application transaction and slice of the drain on, they go to the bulk lane."""
    lock_timeout: Duration = timedelta(milliseconds=50)
    """How long a worker waits for a lock; far below the server's `deadlock_timeout`."""
    provider_timeout: Duration = timedelta(seconds=30)
    keep_runs: Duration = timedelta(days=30)
    """How long finished, failed and cancelled runs are kept."""
    keep_drift: Duration = timedelta(days=400)
    """How long the figures of reconciliations and of recall are kept."""
    keep_history: Duration = timedelta(days=7)
    """How long the state of each pipeline is kept minute by minute, for charts."""
    discard_dead_letters_after: Duration | None = None
    """The age after which dead letters are discarded, as `dead-letters discard` does; None: never."""
    sample_queries: float = Field(0.0, ge=0, le=1)
    """The share of queries whose vectors, never their texts, are stored to measure recall with."""
    text_limit_bytes: int = Field(1_000_000, ge=1)
    serve_token: Token | None = None
    """The token that `pgvector-sync serve` requires. None: everybody who reaches it can read it."""
    local_threads: int | None = Field(None, ge=1, le=1_000)
    """How many threads compute with a local model. None: the cores, divided among the processes of a worker."""

    @property
    def ca_file_list(self) -> tuple[str, ...]:
        """The paths in `ca_files`."""
        return tuple(filter(None, (path.strip() for path in self.ca_files.split(","))))

    @property
    def longest_call(self) -> timedelta:
        """The time limit of one request. A batch must outlive a request that hangs, to find its cause."""
        return min(self.provider_timeout, self.deadline / 3)

    @property
    def renew_every(self) -> timedelta:
        """The interval at which leases are renewed: several times before one is suspected."""
        return self.lease / 5

    @property
    def grace(self) -> timedelta:
        """How long a lease that wasn't renewed is suspected before it is lost; the last part of `lease`."""
        return self.lease / 3

    @property
    def expires_after(self) -> timedelta:
        """How long after its last renewal a lease is suspected."""
        return self.lease - self.grace

    @property
    def ends_after(self) -> timedelta:
        """When a lease ends even if it is renewed: late enough to write what was paid for by the deadline."""
        return self.deadline + self.deadline / 3

    @property
    def silence(self) -> timedelta:
        """How long a worker waits for a silent server, so that a batch ends before its lease does."""
        return min(max(self.deadline / 3, SHORTEST_SILENCE), LONGEST_SILENCE)

    @property
    def page_limit(self) -> timedelta:
        """The time limit of a statement over a page, well below `silence`."""
        return min(LONGEST_PAGE, self.silence / 3)

    @property
    def row_limit(self) -> timedelta:
        """How long `text` and `where` may take for one row before the row is held responsible."""
        return min(self.row_timeout, self.page_limit)

    @property
    def probe(self) -> timedelta:
        """The time limit of a pipeline's probe: a call that hangs, and one with the harmless text."""
        return self.longest_call * 1.5 + self.lease

    def database(self) -> str:
        """The connection string, as libpq reads it. Raises ConfigError if it is missing or not valid."""
        if self.database_url is None:
            raise ConfigError(
                "no database is configured",
                where="DATABASE_URL",
                hint="export DATABASE_URL=postgresql://user:password@host:5432/database, "
                "or run `pgvector-sync up` for an embedded one",
            )
        return libpq_url(self.database_url.get_secret_value())

    def build_database(self) -> str:
        """The connection string for building indexes. Raises ConfigError if there is none, or it isn't valid."""
        if self.build_database_url is None:
            return self.database()
        return libpq_url(self.build_database_url.get_secret_value(), variable("build_database_url"))

    def redis(self) -> str:
        """The Redis URL. Raises ConfigError if it is missing."""
        if self.redis_url is None:
            raise ConfigError(
                "no Redis is configured",
                where="REDIS_URL",
                hint="export REDIS_URL=redis://host:6379/0, or use `pgvector-sync sync`, which needs none",
            )
        return self.redis_url.get_secret_value()

    def broker(self) -> str:
        """The URL of Celery's broker: CELERY_BROKER_URL, else REDIS_URL. Raises ConfigError if there is none."""
        if self.celery_broker_url is not None:
            return self.celery_broker_url.get_secret_value()
        return self.redis()

    @property
    def broker_variable(self) -> str:
        """The variable that `broker` comes from."""
        return "REDIS_URL" if self.celery_broker_url is None else "CELERY_BROKER_URL"

    def namespace(self) -> str:
        """The prefix of our Redis keys: databases that share a Redis don't share tokens. Raises ConfigError.

        The hash leaves out the account, because its input could be guessed from it.
        """
        place = json.dumps(address_of(self.database()))
        return f"{self.redis_prefix}pgvector-sync:" + hashlib.sha256(place.encode()).hexdigest()[:12]


_OTHERS = re.compile(
    r"^(FAILPOINT|TEST_\w+|REWRITE_SNAPSHOT|(\w+_)?(SERVICE_HOST|SERVICE_PORT\w*|PORT(_\d+_\w+)?))$"
)
"""Variables with our prefix that aren't settings: those of the tests, and those that Kubernetes sets for a service
called pgvector-sync."""


def unknown_variables() -> list[str]:
    """Variables with our prefix, in the environment or `.env`, that aren't settings."""
    known = set(map(variable, Settings.model_fields))
    present = {name.upper() for name in (*os.environ, *dotenv_values(ENV_FILE))}
    return sorted(
        name
        for name in present - known
        if name.startswith(PREFIX) and not _OTHERS.match(name.removeprefix(PREFIX))
    )


def _refuse_misspelled() -> None:
    """Raises ConfigError for a misspelled setting. Other unknown variables may belong to another version: `doctor`
    lists them.
    """
    for name in unknown_variables():
        known = [field.upper() for field in Settings.model_fields]
        nearest = get_close_matches(name.removeprefix(PREFIX), known, n=1, cutoff=0.8)
        if nearest:
            meant = variable(nearest[0])
            raise ConfigError(f"unknown variable; did you mean {meant}?", where="environment", key=name)


@cache
def load_settings() -> Settings:
    """Returns the process's settings. Raises ConfigError, which names the variable and what was expected."""
    require_own_env_file()
    _refuse_misspelled()
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(_expected(first), where="environment", key=variable(str(first["loc"][0]))) from None


def _expected(problem: ErrorDetails) -> str:
    """What was expected. The value isn't shown, because it may be a secret."""
    if problem["type"].startswith("time_delta"):
        return "expected a duration: seconds (120, 0.05), ISO 8601 (PT2M) or HH:MM:SS"
    return problem["msg"].replace("Input should be", "expected").removeprefix("Value error, ")
