"""Compares the indexes of a target with the one that its pipeline declares in the file. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pgvector_sync.model import Method, Pipeline, Storage
from pgvector_sync.observe.doctor.check import quoted
from pgvector_sync.observe.finding import Finding, ok, warning
from pgvector_sync.store.index_ddl import operator_class
from pgvector_sync.store.index_status import VectorIndex
from pgvector_sync.store.target_table import Index

_DEFAULTS = {"m": 16, "ef_construction": 64}
"""Those of pgvector, which an index has if it was created without them."""


def serves(pipeline: Pipeline, index: Index | VectorIndex) -> bool:
    """Whether searches of a pipeline can use a valid index."""
    if index.storage is None:
        return False
    if index.partial and index.storage.value != pipeline.options.vector_type.value:
        return False
    return index.operator_class == operator_class(pipeline.options.metric, index.storage)


def is_declared(pipeline: Pipeline, index: Index | VectorIndex) -> bool:
    """Whether an index is of the declared kind, whatever its parameters are."""
    plan = pipeline.options.index
    kind = plan.method, plan.storage or Storage(pipeline.options.vector_type.value)
    return (index.method, index.storage) == kind and not index.partial and serves(pipeline, index)


def missing(pipeline: Pipeline, indexes: Sequence[Index | VectorIndex]) -> Iterator[Finding]:
    """Say that the declared index doesn't exist, and isn't being built."""
    usable = [index for index in indexes if index.valid or index.building]
    if pipeline.options.index.method is not None and not any(is_declared(pipeline, index) for index in usable):
        yield ok(
            f"the declared index, {_kind(pipeline)}, doesn't exist yet",
            f"build it: pgvector-sync index build {pipeline.name}; what delays it: pgvector-sync index builds "
            f"{pipeline.name}",
        )


def differing(pipeline: Pipeline, indexes: Sequence[VectorIndex]) -> Iterator[Finding]:
    """Say how indexes differ from the declared one, once that is valid."""
    declared = [index for index in indexes if index.valid and is_declared(pipeline, index)]
    if not declared:
        return
    for index in declared:
        if differs := list(_parameters(pipeline, index)):
            yield warning(
                f"{index.name} was built with other parameters than declared: {', '.join(differs)}",
                f"pgvector-sync index build {pipeline.name} --rebuild",
            )
    for index in indexes:
        if index.valid and index not in declared and index.method in set(Method) and serves(pipeline, index):
            yield warning(
                f"{index.name} ({index.method} of {index.storage}) isn't the declared index, which is "
                f"{declared[0].name} ({_kind(pipeline)}): each write updates both",
                f"DROP INDEX CONCURRENTLY {quoted(index.schema, index.name)};"
                " -- unless queries of the application use it",
            )


def _kind(pipeline: Pipeline) -> str:
    plan = pipeline.options.index
    return f"{plan.method} of {plan.storage or pipeline.options.vector_type}"


def _parameters(pipeline: Pipeline, index: VectorIndex) -> Iterator[str]:
    plan = pipeline.options.index
    if plan.method is Method.HNSW:
        wanted = {"m": plan.m, "ef_construction": plan.ef_construction}
    else:
        wanted = {} if plan.lists is None else {"lists": plan.lists}
    for name, value in wanted.items():
        built = index.parameter(name) or _DEFAULTS.get(name)
        if built != value:
            yield f"{name} = {built} instead of {value}"
