"""Checks of `[pipelines.NAME.index]` against the rest of the pipeline's section. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pgvector_sync.index.pages import MAX_INDEXED_DIMENSIONS
from pgvector_sync.model import IndexPlan, Method, Metric, Options, Storage, VectorType

_OF_METHOD = {"m": Method.HNSW, "ef_construction": Method.HNSW, "lists": Method.IVFFLAT}


def misfits_of_index(
    plan: IndexPlan, vector_type: VectorType, dimensions: int, *, written: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for options that contradict each other, or that pgvector would refuse at the build.

    written: the keys that are in the file.
    """
    for key in written:
        method = _OF_METHOD.get(key)
        if plan.method is not None and method not in (None, plan.method):
            yield key, f'expected no such key: only method = "{method}" has it'
    if plan.method is not Method.IVFFLAT and plan.ef_construction < 2 * plan.m:
        yield (
            "ef_construction",
            f"expected at least twice m, which is {2 * plan.m}, as pgvector requires; got {plan.ef_construction}",
        )
    if plan.storage is Storage.VECTOR and vector_type is VectorType.HALFVEC:
        yield "storage", 'expected "halfvec" or "bit": with vector_type = "halfvec", no more precision is stored'
    elif plan.method is not None or plan.storage is not None:
        storage = plan.storage or Storage(vector_type.value)
        if dimensions > MAX_INDEXED_DIMENSIONS[storage]:
            larger = [f'"{kind}"' for kind in Storage if dimensions <= MAX_INDEXED_DIMENSIONS[kind]]
            limit = f"an index of {storage} has at most {MAX_INDEXED_DIMENSIONS[storage]:,} dimensions"
            yield "storage", f"expected {' or '.join(larger)}: {limit}, and the vectors have {dimensions:,}"


def notes_of_index(options: Options) -> Iterator[str]:
    """Yield what a person should know before such an index is built."""
    if options.index.storage is Storage.BIT and options.metric is Metric.L2:
        yield (
            "an index of bits compares only the signs of numbers, so with the metric l2 it finds the nearest rows "
            "only if vectors are normalized: measure its recall, or use halfvec"
        )
