"""`capacity`: storage types side by side, the cost, and clear answers to what can't be predicted."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from pgvector_sync.cli.sizes import parse_rows
from pgvector_sync.embedding.tokens import count_tokens
from pgvector_sync.errors import ConfigError
from pgvector_sync.index.capacity import Build, build_time, key_part
from pgvector_sync.index.heap import KeyPart
from pgvector_sync.index.phrases import size
from support.synced import DOCS, MODEL, Synced

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def docs(synced: Synced, monkeypatch: pytest.MonkeyPatch) -> Synced:
    """Twenty rows of which none is embedded yet."""
    synced.run(DOCS, "INSERT INTO docs SELECT n, 'text number ' || n FROM generate_series(1, 20) n")
    synced.declare()
    synced.apply()
    monkeypatch.setenv("DATABASE_URL", synced.database.url)
    return synced


def planned(command_line: Command, *arguments: str) -> dict[str, Any]:
    code, printed, error = command_line("capacity", "docs", *arguments, "--json")
    assert code == 0, error
    plan: dict[str, Any] = json.loads(printed)["capacity"]
    return plan | {each["storage"]: each for each in plan["storages"]}


@pytest.mark.usefixtures("docs")
def test_halfvec_halves_the_index_and_bits_take_a_fraction(command_line: Command) -> None:
    plan = planned(command_line, "--rows", "10M", "--dimensions", "1536")
    assert plan["rows"] == 10_000_000
    assert plan["vector"]["hnsw_bytes"] == pytest.approx(8192 * 10_000_000, rel=0.001)
    assert plan["halfvec"]["hnsw_bytes"] == pytest.approx(8192 * 5_000_000, rel=0.001)
    assert plan["bit"]["hnsw_bytes"] < plan["halfvec"]["hnsw_bytes"] / 5
    assert plan["bit"]["toast_bytes"] == plan["vector"]["toast_bytes"], "re-ranking needs the vectors"
    for each in plan["storages"]:
        parts = ("table_bytes", "toast_bytes", "key_index_bytes", "hnsw_bytes")
        assert each["total_bytes"] == sum(each[part] for part in parts)
        assert each["wal_bytes"] > each["hnsw_bytes"]


def test_the_cost_is_the_price_of_the_mean_number_of_tokens(docs: Synced, command_line: Command) -> None:
    assert planned(command_line, "--rows", "1M")["usd"] is None, "no price is known for this endpoint"
    docs.run("UPDATE pgvector_sync.pipeline SET price = 0.5")
    calls = docs.endpoint.calls.requests
    plan = planned(command_line, "--rows", "1M")
    tokens = [count_tokens(f"text number {n}", MODEL).about for n in range(1, 21)]
    assert plan["tokens_per_row"] == pytest.approx(sum(tokens) / 20, abs=0.1)
    assert plan["usd"] == pytest.approx(sum(tokens) / 20 * 0.5, rel=0.01)
    assert docs.endpoint.calls.requests == calls, "no provider is called"


def test_a_source_without_rows_has_no_cost_and_all_sizes(docs: Synced, command_line: Command) -> None:
    docs.run("DELETE FROM docs")
    plan = planned(command_line, "--rows", "1k")
    assert (plan["tokens_per_row"], plan["usd"]) == (None, None)
    assert plan["vector"]["table_bytes"] > 0
    assert "no texts yet" in command_line("capacity", "docs", "--rows", "1k")[1]


@pytest.mark.usefixtures("docs")
def test_an_index_that_cannot_have_so_many_dimensions_is_named(command_line: Command) -> None:
    plan = planned(command_line, "--rows", "1k", "--dimensions", "3072")
    assert plan["vector"]["hnsw_bytes"] is plan["vector"]["ivfflat_bytes"] is None
    assert plan["halfvec"]["hnsw_bytes"] > 0
    assert "too many dimensions" in command_line("capacity", "docs", "--rows", "1k", "--dimensions", "3072")[1]


def test_m_is_that_of_the_pipelines_index(docs: Synced, command_line: Command) -> None:
    assert planned(command_line, "--rows", "1k")["m"] == 16
    docs.run("CREATE INDEX ON docs_embedding USING hnsw (embedding vector_cosine_ops) WITH (m = 24)")
    assert planned(command_line, "--rows", "1k")["m"] == 24
    assert planned(command_line, "--rows", "1k", "-m", "8")["m"] == 8


@pytest.mark.usefixtures("docs")
def test_the_time_of_a_build_is_only_extrapolated_from_a_measured_one(command_line: Command) -> None:
    assert "time of the HNSW build: unknown" in command_line("capacity", "docs", "--rows", "1M")[1]
    plan = planned(command_line, "--rows", "1M", "--built-rows", "100k", "--built-seconds", "60")
    assert plan["vector"]["build_time_seconds"] == pytest.approx(720, abs=1)
    assert build_time(1_000, Build(1_000, timedelta(seconds=5))) == timedelta(seconds=5)


@pytest.mark.usefixtures("docs")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["docs", "--rows", "many"], "isn't a number of rows"),
        (["docs", "--rows", "0"], "isn't a number of rows"),
        (["docs", "--rows", "1M", "--built-rows", "1k"], "both --built-rows and --built-seconds"),
        (["nothing", "--rows", "1M"], "nothing"),
    ],
)
def test_a_mistake_is_explained(command_line: Command, arguments: list[str], message: str) -> None:
    code, printed, error = command_line("capacity", *arguments)
    assert (code != 0, printed) == (True, "")
    assert message in error


def test_rows_are_typed_as_people_write_them() -> None:
    assert [parse_rows(text) for text in ("10M", "250k", "1_000", "1,000", "1.5m")] == [
        10_000_000, 250_000, 1_000, 1_000, 1_500_000,
    ]  # fmt: skip
    with pytest.raises(ConfigError):
        parse_rows("-5")
    assert [size(number) for number in (12, 8_192, 1024**3 * 7, 1024**4 * 2)] == [
        "12 B", "8.0 kB", "7.0 GB", "2.0 TB",
    ]  # fmt: skip


def test_keys_of_variable_length_have_their_average_width() -> None:
    assert key_part(8, "d", "int8", 8) == KeyPart(8, 8)
    assert key_part(16, "c", "uuid", None) == KeyPart(16, 1, ascending=False)
    assert key_part(-1, "i", "text", 12) == KeyPart(12, 1, ascending=False)
    assert key_part(-1, "i", "text", None).width == 16
