"""Every option of the file changed in turn: `apply` shows it, applies it, and then finds nothing to do.

The parameters are the sections' keys, so an option without a case fails.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import pytest

from pgvector_sync.declare.sections import IndexSection, PipelineSection, ProviderSection, ReconcileSection
from pgvector_sync.model import Provider
from pgvector_sync.store import pipelines
from support.beginnings import begins_with
from support.synced import DIMENSIONS, DOCS, MODEL, Synced

Typed = Callable[..., tuple[int, str, str]]


@dataclass(frozen=True)
class Refused:
    """A value that can't be applied, and part of the refusal's message."""

    value: Any
    says: str


PIPELINE: dict[str, Any] = {
    "source": Refused("others", "the source can't be changed: it is public.docs"),
    "key": Refused(["note"], "the key of public.docs was (id bigint)"),
    "target": Refused("elsewhere", "the target can't be changed: it is public.docs_embedding"),
    "text": ["body", "note"],
    "where": "id > 1",
    "provider": "other",
    "model": "text-embedding-3-large",
    "dimensions": 2 * DIMENSIONS,
    "vector_type": "halfvec",
    "document": {"prefix": "passage: "},
    "query": {"prefix": "query: ", "model": "text-embedding-3-large"},
    "metric": "l2",
    "batch_size": 7,
    "tokens_per_day": 1_000_000,
    "reconcile": {"every": "6h", "window": "22:00-05:00"},
    "index": {"method": "hnsw", "window": "01:00-05:00"},
    "capture_replicated": True,
}
RECONCILE: dict[str, Any] = {
    "every": "36h",
    "cron": "0 3 * * *",
    "deep_every": "off",
    "window": "22:00-05:00:30",
    "page_rows": 500,
    "database_share": 0.25,
    "orphan_share": 0,
}
INDEX: dict[str, Any] = {
    "method": "ivfflat",
    "storage": "bit",
    "m": 24,
    "ef_construction": 100,
    "lists": 200,
    "window": "01:00-05:00",
    "recall": 0.9,
    "measure_every": "12h",
    "database_share": 0.25,
}
PROVIDER: dict[str, Any] = {
    "base_url": "http://localhost:{port}/v1",
    "api_key_env": "OTHER_KEY",
    "requests_per_minute": 6_000,
    "tokens_per_minute": 60_000_000,
    "max_inputs": 16,
    "max_request_tokens": 10_000,
    "max_input_tokens": 512,
    "dimensions_parameter": "none",
    "encoding": "float",
    "headers": {"X-Title": "search"},
    "extra_body": {"user": "search"},
    "ca_file": "/etc/ssl/private-ca.pem",
    "proxy": Refused("http://proxy.example:3128", "can't reach 127.0.0.1"),
    "dialect": Refused("local", "not supported: the dialect local runs in the worker's process"),
}
ONLY_WHILE_EMPTY = {"dimensions", "vector_type"}
QUICK = {"source", "text", "model", "document", "query", "batch_size"}
"""Cases of the quick round: one per way in which a pipeline's options are stored and compared."""


class Declared:
    """A file in which any option can be changed."""

    def __init__(self, synced: Synced, typed: Typed) -> None:
        self.synced, self._typed = synced, typed
        self.pipeline: dict[str, Any] = {
            "source": "docs",
            "text": ["body"],
            "provider": "test",
            "model": MODEL,
            "dimensions": DIMENSIONS,
        }
        self.provider = {"base_url": synced.endpoint.base_url, "api_key_env": "TEST_KEY"}
        self.prices: dict[str, float] = {}

    def apply(self, *options: str) -> tuple[int, str, str]:
        sections = {
            "providers.test": self.provider,
            "providers.other": {"base_url": self.synced.endpoint.base_url, "api_key_env": "TEST_KEY"},
            "pipelines.docs": self.pipeline,
            "prices": self.prices,
        }
        lines = []
        for name, values in sections.items():
            lines.append(f"[{name}]")
            for key, value in values.items():
                inner = {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
                # a JSON string, number or list of strings is also valid TOML
                lines += [
                    f"{json.dumps(path) if ' ' in path else path} = {json.dumps(v)}" for path, v in inner.items()
                ]
        self.synced.file.write_text("\n".join(lines))
        return self._typed("apply", "--file", str(self.synced.file), *options)

    def settled(self) -> None:
        """`apply --check` finds no difference, also after everything was embedded."""
        self._matches()
        self.synced.settle()
        self.synced.covered()
        self._matches()

    def _matches(self) -> None:
        code, out, err = self.apply("--check")
        assert code == 0, out + err
        assert "nothing to do: the database matches the file" in out

    def changes(self, name: str) -> None:
        """The difference is shown under the option's name, and disappears once it is applied."""
        code, out, err = self.apply("--check")
        assert code == 1, f"the change of {name} is not seen: {out}{err}"
        assert name in out
        code, out, err = self.apply("--yes")
        assert code == 0, err
        self.settled()


def plain(synced: Synced) -> None:
    synced.run(DOCS, "CREATE TABLE others (id bigint PRIMARY KEY, body text, note text)")
    synced.run("ALTER TABLE docs ALTER note SET NOT NULL, ADD UNIQUE (note)")
    synced.owns("docs")  # for capture_replicated
    synced.pipeline()


beginning, begun = begins_with(plain)


@pytest.fixture
def declared(begun: Synced, typed: Typed) -> Declared:
    declared = Declared(begun, typed)
    assert declared.apply("--yes")[0] == 0
    declared.settled()
    return declared


@pytest.fixture
def filled(declared: Declared) -> Declared:
    declared.synced.run("INSERT INTO docs VALUES (1, 'one', 'uno'), (2, 'two', 'dos')")
    declared.synced.settle()
    return declared


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
        for name in sorted(PipelineSection.model_fields.keys() - ONLY_WHILE_EMPTY)
    ],
)
def test_a_changed_option_of_a_pipeline_is_applied_once(filled: Declared, name: str) -> None:
    before, case = dict(filled.pipeline), PIPELINE[name]
    if not isinstance(case, Refused):
        filled.pipeline[name] = case
        filled.changes(name)
        return
    filled.pipeline[name] = case.value
    code, _, err = filled.apply("--yes")
    assert code == 1
    assert case.says in " ".join(err.split())
    filled.pipeline = before
    filled.settled()


@pytest.mark.parametrize("name", sorted(ONLY_WHILE_EMPTY))
def test_another_type_of_vector_is_applied_once_while_there_are_none(declared: Declared, name: str) -> None:
    declared.pipeline[name] = PIPELINE[name]
    declared.changes(name)
    declared.synced.run("INSERT INTO docs VALUES (1, 'one', 'uno')")
    declared.synced.settle()
    assert set(declared.synced.vectors()) == {(1,)}
    declared.settled()


@pytest.mark.parametrize("name", sorted(ONLY_WHILE_EMPTY))
def test_another_type_of_vector_is_refused_while_there_are_some(filled: Declared, name: str) -> None:
    filled.pipeline[name] = PIPELINE[name]
    code, _, err = filled.apply("--yes")
    assert code == 1
    assert "public.docs_embedding holds vector(8) vectors" in " ".join(err.split())
    filled.pipeline |= {"dimensions": DIMENSIONS, "vector_type": "vector"}
    filled.settled()
    filled.synced.exact()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "window" else pytest.mark.slow)
        for name in ReconcileSection.model_fields
    ],
)
def test_a_changed_option_of_reconciliation_is_applied_once(declared: Declared, name: str) -> None:
    declared.pipeline["reconcile"] = {name: RECONCILE[name]}
    declared.changes(f"reconcile: default → {name} {RECONCILE[name]}")
    del declared.pipeline["reconcile"]
    declared.changes("→ default")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name == "method" else pytest.mark.slow) for name in IndexSection.model_fields],
)
def test_a_changed_option_of_the_index_is_applied_once(declared: Declared, name: str) -> None:
    declared.pipeline["index"] = {name: INDEX[name]}
    declared.changes(f"index: default → {name} {INDEX[name]}")
    del declared.pipeline["index"]
    declared.changes("→ default")


def test_a_changed_price_is_applied_once(declared: Declared) -> None:
    declared.prices[MODEL] = 0.5
    declared.changes("price: list price → $0.5 per million tokens")
    declared.prices.clear()
    declared.changes("→ list price")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=[] if name in {"base_url", "headers", "max_inputs", "dialect"} else pytest.mark.slow
        )
        for name in ProviderSection.model_fields
    ],
)
def test_a_changed_option_of_a_provider_is_applied_once(filled: Declared, name: str) -> None:
    value = PROVIDER[name]
    if isinstance(value, Refused):
        before, filled.provider = filled.provider, filled.provider | {name: value.value}
        code, _, err = filled.apply("--yes")
        assert code != 0
        assert value.says in " ".join(err.split())
        filled.provider = before
        filled.settled()
        return
    if isinstance(value, str):
        value = value.format(port=filled.synced.endpoint.base_url.rpartition(":")[2].partition("/")[0])
    filled.provider[name] = value
    filled.changes("provider test")
    with filled.synced.owner.database.transaction() as connection:
        stored = pipelines.providers(connection)["test"]
    assert getattr(stored, name) == value
    if name not in (
        "base_url",
        "api_key_env",
        "dimensions_parameter",
        "ca_file",
    ):  # the endpoint or the environment of these tests refuses their values
        filled.synced.run("INSERT INTO docs VALUES (3, 'three', 'tres')")
        filled.synced.settle()


def test_every_option_has_a_case() -> None:
    assert PIPELINE.keys() == PipelineSection.model_fields.keys()
    assert RECONCILE.keys() == ReconcileSection.model_fields.keys()
    assert PROVIDER.keys() == ProviderSection.model_fields.keys() == {f.name for f in fields(Provider)} - {"name"}
