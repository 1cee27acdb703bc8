"""What is checked before a build, and which memory and workers it gets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pgvector_sync.cli.sizes import parse_bytes
from pgvector_sync.errors import ConfigError
from pgvector_sync.index.pages import hnsw_build_memory, ivfflat_build_memory, value_bytes
from pgvector_sync.index.preflight import Existing, Facts, Preflight, preflight
from pgvector_sync.model import IndexPlan, Method, Storage

MB = 1 << 20
HNSW = IndexPlan(method=Method.HNSW)
IVFFLAT = IndexPlan(method=Method.IVFFLAT)
FACTS = Facts(
    target="public.docs_embedding",
    plan=HNSW,
    storage=Storage.VECTOR,
    dimensions=256,
    rows=20_000,
    pgvector="0.8.6",
    bits=64,
    memory_bytes=64 * MB,
    shared_buffers_bytes=128 * MB,
    workers=2,
    shared_memory="posix",
    same=None,
    replace=False,
)


def checked(**changes: object) -> Preflight:
    return preflight(replace(FACTS, **changes))  # type: ignore[arg-type]


def remarks(**changes: object) -> str:
    return "\n".join(checked(**changes).remarks)


def test_a_graph_that_fits_gets_the_memory_that_it_needs() -> None:
    graph = hnsw_build_memory(20_000, value_bytes(Storage.VECTOR, 256))
    assert graph < 64 * MB
    assert checked().memory_bytes == 64 * MB
    assert checked(memory_bytes=MB, shared_buffers_bytes=8_192 * MB).memory_bytes == pytest.approx(
        graph * 1.1, abs=MB
    )
    assert "and the build has 64.0 MB" in remarks()


def test_at_most_half_of_shared_buffers_is_used_unless_more_is_asked_for() -> None:
    million = checked(rows=1_000_000, shared_buffers_bytes=1_024 * MB)
    assert million.memory_bytes == 512 * MB
    said = "\n".join(million.remarks)
    assert "several times as slowly" in said
    memory = said[said.index("--memory ") :].split()[1]
    asked = checked(rows=1_000_000, shared_buffers_bytes=1_024 * MB, asked_memory=parse_bytes(memory))
    assert "slowly" not in "\n".join(asked.remarks), "what is advised is enough"
    assert checked(memory_bytes=4_096 * MB).memory_bytes == 4_096 * MB, "never less than the server has"


@pytest.mark.parametrize(
    ("version", "plan", "workers"),
    [("0.8.1", HNSW, 0), ("0.8.2", HNSW, None), ("0.7.0", HNSW, 0), ("0.8.1", IVFFLAT, None)],
)
def test_hnsw_is_built_without_parallel_workers_where_those_are_unsafe(
    version: str, plan: IndexPlan, workers: int | None
) -> None:
    assert checked(pgvector=version, plan=plan, rows=100_000).workers == workers
    assert ("known bugs" in remarks(pgvector=version, plan=plan)) == (workers == 0)


def test_a_parallel_build_says_what_it_needs_of_dev_shm() -> None:
    assert "64.0 MB of /dev/shm" in remarks()
    assert "/dev/shm" not in remarks(shared_memory="mmap")
    assert "/dev/shm" not in remarks(workers=0)
    assert checked(asked_workers=0).workers == 0


@pytest.mark.parametrize(
    ("storage", "dimensions", "refused"),
    [
        (Storage.VECTOR, 2_000, False),
        (Storage.VECTOR, 2_001, True),
        (Storage.HALFVEC, 4_000, False),
        (Storage.HALFVEC, 4_001, True),
        (Storage.BIT, 16_000, False),
    ],
)
def test_more_dimensions_than_an_index_can_have_are_refused(
    storage: Storage, dimensions: int, refused: bool
) -> None:
    refusal = checked(storage=storage, dimensions=dimensions).refusal
    assert (refusal is not None) == refused
    if refusal is not None:
        assert "halfvec" in refusal.hint
        assert not refusal.temporary


@pytest.mark.parametrize(
    ("rows", "lists", "least"),
    [(999, None, 1_000), (1_000, None, None), (40_000, 1_000, 50_000), (0, None, 1_000)],
)
def test_ivfflat_on_few_rows_is_refused_until_there_are_more(
    rows: int, lists: int | None, least: int | None
) -> None:
    refusal = checked(rows=rows, plan=replace(IVFFLAT, lists=lists), asked_memory=4_096 * MB).refusal
    assert (refusal is None) == (least is None)
    if refusal is not None:
        assert f"needs at least {least:,} vectors" in refusal.reason
        assert refusal.temporary
    assert checked(rows=rows).refusal is None, "HNSW can be built at any time"


def test_ivfflat_without_the_memory_for_its_centres_is_refused_with_an_amount_that_is_enough() -> None:
    facts = {"rows": 1_000_000, "dimensions": 1_536, "plan": IVFFLAT}
    refusal = checked(**facts).refusal
    assert refusal is not None
    assert not refusal.temporary
    memory = parse_bytes(refusal.hint[refusal.hint.index("--memory ") :].split()[1].rstrip(","))
    assert checked(**facts, asked_memory=memory).refusal is None
    assert memory < 2 * ivfflat_build_memory(
        1_000_000, value_bytes(Storage.VECTOR, 1_536), lists=1_000, dimensions=1_536
    )


def test_an_equal_index_is_refused_unless_it_is_to_be_replaced() -> None:
    same = Existing("near", (), ours=True)
    refusal = checked(same=same).refusal
    assert refusal is not None
    assert "there is such an index already, near" in refusal.reason
    assert checked(same=same, replace=True).refusal is None
    other = checked(same=Existing("near", ("m=4",), ours=False)).refusal
    assert other is not None
    assert "near has other parameters: m=4" in other.reason
    assert same.has({"m": 16, "ef_construction": 64}), "pgvector's defaults"


def test_what_a_build_will_wait_for_is_listed() -> None:
    assert "the build will wait for the transaction of pid 7" in remarks(long=["the transaction of pid 7"])


def test_a_memory_is_typed_as_people_write_it() -> None:
    assert [parse_bytes(text) for text in ("8GB", "512MB", "1.5 GiB", "64mb", "2g")] == [
        8_192 * MB, 512 * MB, 1_536 * MB, 64 * MB, 2_048 * MB,
    ]  # fmt: skip
    for text in ("8", "100kB", "much"):
        with pytest.raises(ConfigError, match="isn't a size"):
            parse_bytes(text)
