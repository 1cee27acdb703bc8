"""Pipelines on a real database and a real endpoint: declared in a file, applied, synced and checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql

from pgvector_sync.declare.apply import apply_plan, remove
from pgvector_sync.declare.file import load_config
from pgvector_sync.declare.plan import Plan
from pgvector_sync.declare.planning import make_plan
from pgvector_sync.embedding.embedder import Embedder
from pgvector_sync.engine.loop import Loop
from pgvector_sync.model import Provider
from pgvector_sync.observe.status import settled
from pgvector_sync.runs import run
from pgvector_sync.runtime import Runtime
from pgvector_sync.runtime.bootstrap import Embedders, open_database
from pgvector_sync.settings import Settings
from pgvector_sync.store.coverage import not_covered
from pgvector_sync.store.pipelines import all_pipelines, require_pipeline
from pgvector_sync.store.shape import Shape, key_json
from support import canaries
from support.endpoint import ALLOWED_HOSTS, ENVIRONMENT, Endpoint, vector_of
from support.roles import OWNER, WORKER
from support.servers import Database
from support.waiting import within

DIMENSIONS = 8
MODEL = "text-embedding-3-small"
TEXT_LIMIT = 2_000
"""Bytes; low, so that tests of the limit need only short texts."""
DOCS = f"CREATE TABLE docs (id bigint PRIMARY KEY, body text, note text, unread text DEFAULT '{canaries.UNREAD}')"
"""The default source: `body` is tracked, `note` isn't."""
DROP_TRIGGERS = tuple(
    f"DROP TRIGGER pgvector_sync_{event} ON docs" for event in ("insert", "update", "delete", "truncate")
)
"""As Postgres demands it before the type of a column that our triggers name may change."""

EVENTS = """
SELECT key, at FROM pgvector_sync.outbox UNION ALL SELECT key, at FROM pgvector_sync.parked
UNION ALL SELECT NULL, at FROM pgvector_sync.sweep ORDER BY at
"""
OURS = (
    "GRANT USAGE, CREATE ON SCHEMA pgvector_sync TO {role}",
    "GRANT ALL ON ALL TABLES IN SCHEMA pgvector_sync TO {role}",
    "GRANT ALL ON ALL SEQUENCES IN SCHEMA pgvector_sync TO {role}",
)
"""The grants that a worker's role needs if another role has run `migrate`."""


@dataclass
class Synced:
    """A database, an endpoint, and the pipelines that a test declares on them."""

    database: Database
    endpoint: Endpoint
    runtime: Runtime
    """The runtime of a worker, with a worker's rights."""
    owner: Runtime
    """The runtime of the role that applies."""
    file: Path
    declared: dict[str, dict[str, Any]] = field(default_factory=dict)
    provider: dict[str, Any] = field(default_factory=dict)
    """Further keys of the provider's section."""
    said: list[str] = field(default_factory=list)

    @contextmanager
    def acting_as(self, role: str) -> Iterator[Runtime]:
        """The runtime of a worker whose connections act as this role."""
        with runtime_of(self.database.url_as(role), self.runtime.embedder) as runtime:
            yield runtime

    # -- SQL of the application ----------------------------------------------------------------------------

    def run(self, *statements: str) -> None:
        """Runs each statement in its own transaction, as the superuser."""
        self.database.run(*statements)

    def owns(self, *tables: str) -> None:
        """Makes the role that applies the owner of these sources."""
        self.run(*(f"ALTER TABLE {table} OWNER TO {OWNER}" for table in tables))

    # -- declare, apply, sync ------------------------------------------------------------------------------

    def declare(self, name: str = "docs", **values: Any) -> None:
        """Sets a pipeline's section of the file; keys that aren't given have defaults, and None removes a key."""
        defaults = {
            "source": "docs",
            "text": ["body"],
            "provider": "test",
            "model": MODEL,
            "dimensions": DIMENSIONS,
        }
        self.declared[name] = {key: value for key, value in (defaults | values).items() if value is not None}

    def plan(self, runtime: Runtime | None = None) -> Plan:
        """Writes the file, and plans the changes that make the database match it."""
        self.write_file()
        with (runtime or self.owner).database.transaction() as connection:
            return make_plan(connection, load_config(self.file))

    def write_file(self) -> None:
        """Writes what is declared."""
        provider = {"base_url": self.endpoint.base_url, "api_key_env": "TEST_KEY"}
        sections = [("providers.test", provider | self.provider)]
        sections += [(f"pipelines.{name}", values) for name, values in self.declared.items()]
        self.file.write_text("\n".join(_section(name, values) for name, values in sections), "utf-8")

    def apply(self, runtime: Runtime | None = None) -> Plan:
        """Plans, and carries out the plan."""
        plan = self.plan(runtime)
        apply_plan((runtime or self.owner).database, plan, say=self.said.append)
        return plan

    def pipeline(self, name: str = "docs", **values: Any) -> None:
        """Declares and applies a pipeline, syncs it, and checks every vector."""
        self.declare(name, **values)
        self.apply()
        self.sync()

    def filled(self, *statements: str) -> None:
        """Runs statements on the default source of a test that uses `applied`, syncs, and checks every vector."""
        self.declare()
        self.write_file()
        self.run(*statements)
        self.sync()

    def remove(self, name: str = "docs", *, keep_vectors: bool = False, runtime: Runtime | None = None) -> None:
        remove((runtime or self.owner).database, name, keep_vectors=keep_vectors, say=self.said.append)
        self.declared.pop(name, None)

    def settle(self, *, seconds: float = 20.0, runtime: Runtime | None = None) -> None:
        """Runs the loop of `sync` until nothing is left to do."""
        runtime = runtime or self.runtime
        done = Loop(runtime).run(finished=lambda: settled(runtime.database, None), until=within(seconds))
        assert done, f"still not settled after {seconds:g} s"

    def turns(self, count: int) -> bool:
        """Runs this many turns of the loop of `sync`; returns whether the last one did anything."""
        loop = Loop(self.runtime)
        moved = False
        for _ in range(count):
            moved = loop.turn()
        return moved

    def settle_capture(self) -> None:
        """Runs the loop of `sync` until outbox and work are empty, in any state of the pipelines."""
        loop = Loop(self.runtime)
        waiting = (
            "SELECT (SELECT count(*) FROM pgvector_sync.outbox) + (SELECT count(*) FROM pgvector_sync.work)"
            " + (SELECT count(*) FROM pgvector_sync.sweep)"
        )
        assert loop.run(finished=lambda: self.database.value(waiting) == 0, until=within(20))

    def covered_by_events(self) -> None:
        """Asserts that the outbox has events, if only some whose keys couldn't be read."""
        assert self.events() != []

    def sync(self) -> None:
        """Settles, and asserts coverage before and after, and that every vector belongs to its row's text."""
        self.covered()
        self.settle()
        self.covered()
        self.exact()

    # -- checks --------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        with self.runtime.database.transaction() as connection:
            return [pipeline.name for pipeline in all_pipelines(connection)]

    def shape(self, name: str = "docs") -> Shape:
        with self.runtime.database.transaction() as connection:
            pipeline = require_pipeline(connection, name)
        return Shape(pipeline, self.runtime.database.vector_schema)

    def covered(self) -> None:
        """Asserts coverage (G1) of every pipeline."""
        for name in self.names():
            # unlike a worker, a check waits for a writer's TRUNCATE, which itself waits for the workers
            with self.runtime.database.transaction(lock_timeout=timedelta(seconds=30)) as connection:
                missing = not_covered(connection, self.shape(name), text_limit=TEXT_LIMIT)
            assert missing == [], f"{name} has lost {missing}"

    def vectors(self, name: str = "docs") -> dict[tuple[Any, ...], np.ndarray[Any, Any]]:
        """Key → stored vector."""
        pipeline = self.shape(name).pipeline
        query = sql.SQL("SELECT {}, embedding::text FROM {} AS t").format(
            key_json(pipeline.source, sql.Identifier("t")),
            sql.Identifier(pipeline.target_schema, pipeline.target_table),
        )
        with self.database.lent() as connection:
            rows = connection.execute(query).fetchall()
        assert len({tuple(key) for key, _ in rows}) == len(rows)
        return {tuple(key): np.array(json.loads(vector), dtype=np.float32) for key, vector in rows}

    def texts(self, name: str = "docs") -> dict[tuple[Any, ...], str]:
        """Key → text of every row that should have a vector, by an independent query."""
        pipeline = self.shape(name).pipeline
        source = sql.Identifier(pipeline.source.schema, pipeline.source.table)
        query = sql.SQL("SELECT {}, ({}\n)::text FROM {} WHERE ({}\n)").format(
            key_json(pipeline.source, source),
            sql.SQL(pipeline.text_sql),
            source,
            sql.SQL(pipeline.where_sql or "true"),
        )
        with self.database.lent() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            rows = connection.execute(query).fetchall()
        return {tuple(key): text for key, text in rows if text is not None and text.strip()}

    def exact(self) -> None:
        """Asserts that every vector belongs to its row's text, that none is missing and none is left over."""
        for name in self.names():
            texts, vectors = self.texts(name), self.vectors(name)
            prefix = self.shape(name).pipeline.spec.prefix or ""
            assert set(vectors) == set(texts)
            wrong = [
                key
                for key, text in texts.items()
                if not np.allclose(vectors[key], vector_of(prefix + text, DIMENSIONS))
            ]
            assert wrong == []

    def events(self) -> list[list[Any] | None]:
        """The keys of all events, in order; None stands for a sweep, or a key that couldn't be read."""
        return [key for key, _ in self.database.execute(EVENTS)]

    def dead(self) -> list[tuple[list[Any], str]]:
        """Key and error class of each dead letter."""
        query = "SELECT key, error_class FROM pgvector_sync.work WHERE verdict = 'dead' ORDER BY key"
        return [(key, error) for key, error in self.database.execute(query)]

    def paid(self) -> int:
        """The number of texts sent to the endpoint so far."""
        return self.endpoint.calls.inputs


def _section(name: str, values: dict[str, Any]) -> str:
    lines = [f"[{name}]"]
    for key, value in values.items():
        inline = {f"{key}.{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {key: value}
        lines += [f"{path} = {toml(item)}" for path, item in inline.items()]
    return "\n".join(lines) + "\n"


def toml(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {toml(item)}" for name, item in value.items()) + "}"
    # JSON strings, numbers and lists of them are also valid TOML
    return json.dumps(value, ensure_ascii=False)


@contextmanager
def runtime_of(url: str, embedder: Callable[[Provider], Embedder]) -> Iterator[Runtime]:
    """A runtime as `bootstrap` creates it, with faster polling and embedders that outlive the test."""
    settings = Settings(
        DATABASE_URL=url, poll=timedelta(milliseconds=5), text_limit_bytes=TEXT_LIMIT, _env_file=None
    )
    with open_database(settings) as database:
        yield Runtime(settings, database, embedder)


@contextmanager
def running_endpoint() -> Iterator[tuple[Endpoint, Embedders]]:
    """An endpoint and its clients. Tests share them, since creating clients takes longer than many tests."""
    embedders = Embedders(Settings(_env_file=None, allowed_hosts=ALLOWED_HOSTS))
    with Endpoint() as endpoint:
        yield endpoint, embedders
    embedders.close()


@contextmanager
def open_synced(
    database: Database, shared: tuple[Endpoint, Embedders], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Synced]:
    """Opens everything that `Synced` needs, and resets the endpoint."""
    endpoint, embedders = shared
    endpoint.reset()
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(
        run, "RECHECK_EVERY", timedelta(milliseconds=5)
    )  # a run looks again a hundred times as soon
    with (
        runtime_of(database.url_as(WORKER), embedders) as runtime,
        runtime_of(database.url_as(OWNER), embedders) as owner,
    ):
        yield Synced(database, endpoint, runtime, owner, folder / "pgvector-sync.toml")
        _is_witnessed(database, endpoint)


def _is_witnessed(database: Database, endpoint: Endpoint) -> None:
    """Tells the test's witness what was private, and what our tables say at the end."""
    witness = canaries.witness()
    witness.secrets |= {ENVIRONMENT["TEST_KEY"], database.server.password}
    witness.private(endpoint.calls.texts)
    with database.lent(wake=True) as connection:
        witness.looks_at(connection)


@contextmanager
def continued(docs: Synced, database: Database) -> Iterator[Synced]:
    """The same pipelines in another database, such as a restored dump."""
    embedder = docs.runtime.embedder
    with (
        runtime_of(database.url_as(WORKER), embedder) as runtime,
        runtime_of(database.url_as(OWNER), embedder) as owner,
    ):
        yield Synced(database, docs.endpoint, runtime, owner, docs.file, docs.declared)


@contextmanager
def role(database: Database, name: str, *grants: str) -> Iterator[str]:
    """A login role with these grants, in which `{role}` is its name. It is dropped at the end, since roles outlive databases."""
    label = f"{name}_{database.name.removeprefix('test_')}"
    with database.connect() as connection:
        connection.execute(f"CREATE ROLE {label} LOGIN")
        try:
            for grant in grants:
                connection.execute(grant.format(role=label))
            yield label
        finally:
            connection.execute("RESET ROLE")
            # removes what the role owns and was granted, which would keep it from being dropped
            connection.execute(f"DROP OWNED BY {label} CASCADE")
            connection.execute(f"DROP ROLE {label}")


def session(database: Database, **arguments: Any) -> psycopg.Connection[Any]:
    """A session without autocommit, like that of most applications."""
    connection = database.connect(**arguments)
    connection.autocommit = False
    return connection
