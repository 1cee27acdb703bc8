"""What is checked before an index is built, and which memory and parallel workers the build gets. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from pgvector_sync.index.known_bugs import BUILD_ALONE, known_bugs
from pgvector_sync.index.pages import (
    MAX_INDEXED_DIMENSIONS,
    default_lists,
    hnsw_build_memory,
    hnsw_bytes,
    ivfflat_build_memory,
    ivfflat_bytes,
    value_bytes,
)
from pgvector_sync.index.phrases import size
from pgvector_sync.model import IndexPlan, Method, Storage
from pgvector_sync.model.counted import counted

IVFFLAT_LEAST_ROWS = 1_000
IVFFLAT_ROWS_PER_LIST = 50
"""pgvector samples 50 vectors per list to find the lists' centres (`ivfflatbuild` in src/ivfbuild.c)."""
SHARE_OF_SHARED_BUFFERS = 0.5
"""Postgres recommends a quarter of the server's memory as shared_buffers, so this is an eighth of the memory."""
LONG = timedelta(seconds=30)
"""The age from which a transaction is worth mentioning."""
_MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Existing:
    """A valid index of the same method, operator class and expression."""

    name: str
    parameters: tuple[str, ...]
    """As in `WITH (…)`; those that aren't listed have their defaults."""
    ours: bool
    """Whether a build of the pipeline has created it."""

    def has(self, wanted: dict[str, int]) -> bool:
        """Return whether it has these parameters."""
        values = dict(each.split("=", 1) for each in self.parameters)
        return all(int(values.get(name, _DEFAULTS[name])) == value for name, value in wanted.items())


_DEFAULTS = {"m": 16, "ef_construction": 64, "lists": 100}
"""pgvector's."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known before a build."""

    target: str
    plan: IndexPlan
    storage: Storage
    dimensions: int
    rows: int
    pgvector: str
    """The version of the library on the server."""
    bits: int
    memory_bytes: int
    """maintenance_work_mem."""
    shared_buffers_bytes: int
    workers: int
    """max_parallel_maintenance_workers."""
    shared_memory: str
    """dynamic_shared_memory_type."""
    same: Existing | None
    replace: bool
    asked_memory: int | None = None
    asked_workers: int | None = None
    long: Sequence[str] = ()
    """Descriptions of long transactions."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an index can't be built, and what to do."""

    reason: str
    hint: str
    temporary: bool = False
    """Whether it may end by itself."""


@dataclass(frozen=True, slots=True)
class Preflight:
    """How an index will be built."""

    refusal: Refusal | None
    remarks: tuple[str, ...]
    memory_bytes: int
    """maintenance_work_mem of the build."""
    workers: int | None
    """Parallel workers; None: max_parallel_maintenance_workers of the server."""
    lists: int
    predicted_bytes: int


def preflight(facts: Facts) -> Preflight:
    """Check whether the index can be built, and decide how."""
    lists = facts.plan.lists or default_lists(facts.rows)
    value = value_bytes(facts.storage, facts.dimensions)
    hnsw = facts.plan.method is Method.HNSW
    needed = (
        hnsw_build_memory(facts.rows, value, m=facts.plan.m)
        if hnsw
        else ivfflat_build_memory(facts.rows, value, lists=lists, dimensions=facts.dimensions)
    )
    memory = _memory(facts, needed)
    workers = _workers(facts)
    predicted = (
        hnsw_bytes(facts.rows, value, m=facts.plan.m) if hnsw else ivfflat_bytes(facts.rows, value, lists=lists)
    )
    rows = counted(facts.rows, "row")
    remarks = (
        f"about {rows}; the index will take about {size(predicted)} of disk, and as much WAL",
        *_about_memory(facts, needed, memory),
        *_about_workers(facts, memory, workers),
        *(f"the build will wait for {each}" for each in facts.long),
    )
    return Preflight(_refusal(facts, lists, needed, memory), remarks, memory, workers, lists, predicted)


def _refusal(facts: Facts, lists: int, needed: int, memory: int) -> Refusal | None:
    most = MAX_INDEXED_DIMENSIONS[facts.storage]
    if facts.dimensions > most:
        return Refusal(
            f"an index over {facts.storage.value} has at most {most:,} dimensions, and these vectors have "
            f"{facts.dimensions:,}",
            'declare storage = "halfvec" (at most 4,000 dimensions) or storage = "bit" (at most 64,000) in the '
            "section index",
        )
    least = max(IVFFLAT_LEAST_ROWS, IVFFLAT_ROWS_PER_LIST * lists)
    if facts.plan.method is Method.IVFFLAT and facts.rows < least:
        return Refusal(
            f"IVFFlat with {lists:,} lists needs at least {least:,} vectors, and {facts.target} has "
            f"{facts.rows:,}: the centres of its lists are found once, among the vectors of that time",
            "build it once there are more vectors, or use HNSW, which can be built at any time",
            temporary=True,
        )
    if facts.plan.method is Method.IVFFLAT and needed > memory:
        return Refusal(
            f"IVFFlat with {lists:,} lists needs {size(needed)} of memory to find their centres, and the build "
            f"has {size(memory)}",
            f"pgvector-sync index build … --memory {_typed(needed)}, a higher maintenance_work_mem of the role "
            "that builds, or fewer lists",
        )
    if facts.same is None or facts.replace:
        return None
    if facts.same.has(parameters(facts.plan, facts.plan.lists)):
        return Refusal(f"there is such an index already, {facts.same.name}", "to build it again: --rebuild")
    return Refusal(
        f"{facts.same.name} has other parameters: {', '.join(facts.same.parameters) or 'the defaults'}",
        "to replace it: --rebuild",
    )


def parameters(plan: IndexPlan, lists: int | None) -> dict[str, int]:
    """Return the parameters of an index. Without `lists`, those of IVFFlat depend on the rows."""
    if plan.method is Method.HNSW:
        return {"m": plan.m, "ef_construction": plan.ef_construction}
    return {} if lists is None else {"lists": lists}


def _memory(facts: Facts, least: int) -> int:
    """Return maintenance_work_mem: as asked, or enough, but at most a cautious share of the server's memory."""
    if facts.asked_memory is not None:
        return facts.asked_memory
    cautious = max(facts.memory_bytes, int(facts.shared_buffers_bytes * SHARE_OF_SHARED_BUFFERS))
    needed = -(-int(least * 1.1) // _MB) * _MB
    return max(facts.memory_bytes, min(needed, cautious))


def _about_memory(facts: Facts, graph: int, memory: int) -> Iterator[str]:
    if facts.plan.method is Method.IVFFLAT:
        return
    if graph <= memory:
        yield f"the graph takes about {size(graph)} of memory, and the build has {size(memory)}"
        return
    yield (
        f"the graph takes about {size(graph)} of memory, and the build has {size(memory)}: once that is full, the "
        "rest is built on disk, several times as slowly"
    )
    if facts.asked_memory is None:
        yield (
            "Postgres doesn't report the server's memory, so at most half of shared_buffers "
            f"({size(facts.shared_buffers_bytes)}) is used; to use more: --memory {_typed(graph)}"
        )


def _typed(number: int) -> str:
    """Return a memory a little above `number`, as it is typed."""
    megabytes = -(-int(number * 1.1) // _MB)
    return f"{megabytes}MB" if megabytes < 10_240 else f"{-(-megabytes // 1_024)}GB"


def _workers(facts: Facts) -> int | None:
    if facts.asked_workers is not None:
        return facts.asked_workers
    return 0 if _unsafe_in_parallel(facts) else None


def _unsafe_in_parallel(facts: Facts) -> bool:
    method = "hnsw" if facts.plan.method is Method.HNSW else "ivfflat"
    bugs = known_bugs(facts.pgvector, bits=facts.bits, methods=(method,))
    return any(bug.workaround == BUILD_ALONE for bug in bugs)


def _about_workers(facts: Facts, memory: int, workers: int | None) -> Iterator[str]:
    if workers == 0 and _unsafe_in_parallel(facts):
        yield f"without parallel workers: parallel builds of pgvector {facts.pgvector} have known bugs"
    elif workers is None and facts.workers and facts.plan.method is Method.HNSW and facts.shared_memory == "posix":
        yield (
            f"a parallel build needs {size(memory)} of /dev/shm (Docker has 64 MB by default: --shm-size); "
            "without it, the build is repeated without parallel workers"
        )
