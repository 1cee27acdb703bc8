"""Which index a pipeline should have: none, HNSW or IVFFlat, over which storage, with which parameters. Pure.

Each rule names its source: pgvector's README (https://github.com/pgvector/pgvector), or a measurement of ours in
docs/decisions/0091-advised-indexes.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from pgvector_sync.index.capacity import Build, build_time
from pgvector_sync.index.known_bugs import BUILD_ALONE, NEWEST_KNOWN, Bug, known_bugs
from pgvector_sync.index.pages import (
    MAX_INDEXED_DIMENSIONS,
    default_lists,
    hnsw_build_memory,
    hnsw_bytes,
    ivfflat_build_memory,
    ivfflat_bytes,
    value_bytes,
)
from pgvector_sync.index.phrases import milliseconds, share, size
from pgvector_sync.index.sampled import LARGEST_HALF, Sample
from pgvector_sync.index.tuning import Tuning, hnsw_tuning, probes
from pgvector_sync.model import IndexPlan, Method, Metric, Storage

LATENCY = timedelta(milliseconds=50)
"""The time of an exact search up to which no index is advised, unless another time is asked for."""
HORIZON = timedelta(days=90)
"""How far growth is planned for."""
FASTEST = timedelta(milliseconds=1)
"""What an HNSW search took among 100,000 vectors with everything in memory (decision 0091)."""
CHURN = 0.01
"""A share of the rows per day from which an IVFFlat index, whose centres never move, is rebuilt each month."""
_GAINED_BY_RANKING = 0.05
"""What more candidates add to the recall of bits: from 100 to 400, it was 0.09 (decision 0091)."""
_WIDER_FOR_BITS = 4
_MOST_EF_SEARCH = 1_000
"""HNSW_MAX_EF_SEARCH of pgvector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Existing:
    """A valid index of the target that searches of the pipeline can use."""

    schema: str
    name: str
    method: Method
    storage: Storage
    m: int | None = None
    ef_construction: int | None = None
    lists: int | None = None
    """None: the default of pgvector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a measurement of an index's recall has found."""

    index: str
    value: int | None
    """The smallest `ef_search` or `probes` that reaches the asked recall; None: none does."""
    recall: float
    """The mean with that value, or the best that was reached."""
    queries: int
    p95: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known about a pipeline, its vectors and its server."""

    pipeline: str
    vectors: int
    """Those in the target."""
    source_rows: int | None
    """As last counted for `status`; None: not known. There are more than vectors during a backfill."""
    dimensions: int
    metric: Metric
    column: Storage
    sample: Sample
    growth_per_day: float | None
    """Rows of the source. None if the history is shorter than a day."""
    churn_per_day: float | None
    """Vectors that replace others."""
    exact: timedelta | None
    """The time of a search that compares all vectors; None if it took longer than `exact_limit`."""
    exact_limit: timedelta
    cache: int
    """The server's `effective_cache_size` in bytes."""
    pgvector: str = NEWEST_KNOWN
    """The version of the library on the server."""
    bits: int = 64
    build: Build | None = None
    """A build of this pipeline's HNSW index that was measured."""
    existing: tuple[Existing, ...] = ()
    measured: Measured | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What is asked of searches."""

    recall: float = 0.95
    latency: timedelta | None = None
    memory: int | None = None
    """Bytes that the index may take, in the cache and while it is built; None: as `effective_cache_size` says."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What keeps a goal from being reached, and what would help."""

    seen: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The advised index. `plan.method` is None if all vectors should be compared."""

    plan: IndexPlan
    rows: int
    """The rows that are planned for, with growth."""
    storage: Storage
    setting: str | None
    """`hnsw.ef_search` or `ivfflat.probes`; None without an index."""
    value: int | None
    """Its value."""
    measured: bool
    """Whether the value comes from a measurement. Otherwise it is a start value."""
    keep: Existing | None
    """The index that exists and is as good as the advised one."""
    bytes: int | None
    build_memory_bytes: int | None
    build_time: timedelta | None
    """None without a measured build."""
    alone: bool
    """Whether the server's pgvector has a bug of parallel builds."""
    reasons: tuple[str, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    method: Method
    storage: Storage
    tuning: Tuning
    bytes: int
    build: int
    """The memory that its build needs."""

    @property
    def memory(self) -> int:
        """The most that it takes, as an index or while it is built."""
        return max(self.bytes, self.build)


def advise(facts: Facts, goal: Goal) -> Choice:
    """Choose an index."""
    if unusable := _unusable(facts):
        return _exact(facts, facts.vectors, [], [unusable])
    rows = _planned(facts)
    reasons = list(_size_reasons(facts, rows))
    exact = None if facts.exact is None else facts.exact * (rows / facts.vectors)
    if goal.recall >= 1:
        reasons.append("recall 1 means that every neighbour is found, which only comparing all vectors guarantees")
        return _exact(facts, rows, reasons, list(_too_slow(facts, goal, exact)))
    if exact is not None and exact <= (goal.latency or LATENCY):
        reasons.append(
            f"comparing all vectors takes {milliseconds(exact)} at {rows:,} rows (measured here at "
            f"{facts.vectors:,}), within {milliseconds(goal.latency or LATENCY)}: it finds every neighbour, with "
            "any condition, and needs no index. It keeps a processor busy for that long per search"
        )
        return _exact(facts, rows, reasons, [])
    slow = f"{milliseconds(exact)}" if exact is not None else f"more than {milliseconds(facts.exact_limit)}"
    reasons.append(
        f"comparing all vectors takes {slow} at {rows:,} rows: over {milliseconds(goal.latency or LATENCY)}"
    )
    return _with_index(facts, goal, rows, reasons)


def _unusable(facts: Facts) -> Problem | None:
    """An index says and finds nothing without vectors that differ."""
    if facts.vectors == 0:
        return Problem(
            "there are no vectors yet, so nothing can be measured",
            f"pgvector-sync status {facts.pipeline} shows how far the backfill is; "
            f"pgvector-sync capacity {facts.pipeline} --rows N predicts sizes before it",
        )
    if facts.vectors == 1:
        return Problem("there is one vector, which is nearest to everything", "advise again after the backfill")
    if facts.sample.distinct == 1 and facts.sample.vectors > 1:
        return Problem(
            f"all {facts.sample.vectors:,} sampled vectors are equal: no index, and no search, can order them",
            "look at the texts, which may be the same for all rows, and at what the provider answers; "
            f"then: pgvector-sync reembed {facts.pipeline}",
        )
    return None


def _planned(facts: Facts) -> int:
    rows = max(facts.vectors, facts.source_rows or 0)
    return rows + max(0, round((facts.growth_per_day or 0) * HORIZON.days))


def _size_reasons(facts: Facts, rows: int) -> Iterator[str]:
    yield f"{facts.vectors:,} vectors of {facts.dimensions:,} dimensions, compared by {facts.metric.value}"
    if (facts.source_rows or 0) > facts.vectors * 1.1:
        yield f"the source has about {facts.source_rows:,} rows, which are planned for: not all have a vector yet"
    if facts.growth_per_day is None:
        yield "growth is unknown, since the history is shorter than a day"
    elif facts.growth_per_day >= 1:
        yield f"the source grows by {facts.growth_per_day:,.0f} rows per day: {rows:,} rows in {HORIZON.days} days"
    if facts.churn_per_day and facts.churn_per_day >= 1:
        yield (
            f"{facts.churn_per_day:,.0f} vectors are replaced per day "
            f"({share(facts.churn_per_day / facts.vectors)}): each leaves a dead entry in an index until VACUUM"
        )
    if facts.sample.zeros:
        yield (
            f"{facts.sample.zeros:,} of {facts.sample.vectors:,} sampled vectors are zero: they have no "
            "direction, so an index over cosine leaves them out"
        )


def _too_slow(facts: Facts, goal: Goal, exact: timedelta | None) -> Iterator[Problem]:
    limit = goal.latency or LATENCY
    if exact is not None and exact <= limit:
        return
    slow = f"{milliseconds(exact)}" if exact is not None else f"more than {milliseconds(facts.exact_limit)}"
    yield Problem(
        f"comparing all vectors takes {slow}, and {milliseconds(limit)} are allowed",
        f"accept a little less: pgvector-sync index advise {facts.pipeline} --recall 0.99",
    )


def _exact(facts: Facts, rows: int, reasons: list[str], problems: list[Problem]) -> Choice:
    reasons += [
        f"{index.name} exists: each write updates it, and searches through it may miss neighbours"
        for index in facts.existing
    ]
    return Choice(
        plan=IndexPlan(),
        rows=rows,
        storage=facts.column,
        setting=None,
        value=None,
        measured=False,
        keep=None,
        bytes=None,
        build_memory_bytes=None,
        build_time=None,
        alone=False,
        reasons=tuple(reasons),
        problems=tuple(problems),
    )


def _with_index(facts: Facts, goal: Goal, rows: int, reasons: list[str]) -> Choice:
    memory = goal.memory or facts.cache
    rejected: list[str] = []
    problems: list[Problem] = []
    candidates = list(_candidates(facts, goal, rows, rejected))
    fitting = [each for each in candidates if each.memory <= memory]
    if not candidates:
        problems.append(
            Problem(
                f"no index of pgvector takes these vectors: {'; '.join(rejected)}",
                "use a model, or `dimensions`, with fewer numbers",
            )
        )
        return _exact(facts, rows, reasons, problems)
    good = _good_enough(facts)
    as_good = [each for each in fitting if good and (each.method, each.storage) == (good.method, good.storage)]
    chosen = next(iter([*as_good, *fitting]), None) or min(candidates, key=lambda each: each.memory)
    allowed = f"{size(memory)} ({'--memory' if goal.memory else 'effective_cache_size'})"
    if not fitting:
        problems.append(
            Problem(
                f"no index for {rows:,} rows fits into {allowed}: the smallest needs {size(chosen.memory)}",
                f"give the server {size(chosen.memory)}, use fewer dimensions, or split the rows over several "
                "pipelines. Each search through an index that isn't in memory reads from the disk",
            )
        )
    rejected += [
        f"{each.method.value} over {each.storage.value} needs {size(each.memory)}, more than {allowed}"
        for each in candidates[: candidates.index(chosen)]
    ]
    reasons += [*_method_reasons(facts, chosen, allowed), *(f"not chosen: {each}" for each in rejected)]
    return _choice(facts, goal, rows, chosen, reasons, problems)


def _good_enough(facts: Facts) -> Existing | None:
    """Return the index that was measured and reaches the recall. Building another would be work for nothing."""
    if facts.measured is None or facts.measured.value is None:
        return None
    return next((each for each in facts.existing if each.name == facts.measured.index), None)


def _candidates(facts: Facts, goal: Goal, rows: int, rejected: list[str]) -> Iterator[_Candidate]:
    """Yields what is possible, the preferred first.

    The column's own type comes first, since nothing has to be converted or ranked again; then smaller ones. HNSW
    comes before IVFFlat: "better query performance … (in terms of speed-recall tradeoff)" (README, HNSW).
    """
    tuning = hnsw_tuning(goal.recall)
    storages = list(_storages(facts, goal.recall, rejected))
    for storage in storages:
        value = value_bytes(storage, facts.dimensions)
        size = hnsw_bytes(rows, value, m=tuning.m)
        graph = hnsw_build_memory(rows, value, m=tuning.m)
        yield _Candidate(method=Method.HNSW, storage=storage, tuning=tuning, bytes=size, build=graph)
    for storage in storages:
        if storage is not Storage.BIT:
            lists, value = default_lists(rows), value_bytes(storage, facts.dimensions)
            size = ivfflat_bytes(rows, value, lists=lists)
            build = ivfflat_build_memory(rows, value, lists=lists, dimensions=facts.dimensions)
            yield _Candidate(method=Method.IVFFLAT, storage=storage, tuning=tuning, bytes=size, build=build)


def _storages(facts: Facts, recall: float, rejected: list[str]) -> Iterator[Storage]:
    for storage in (Storage.VECTOR, Storage.HALFVEC, Storage.BIT):
        if storage is Storage.VECTOR and facts.column is not Storage.VECTOR:
            continue
        if why := _unsuitable(facts, recall, storage):
            rejected.append(why)
        else:
            yield storage


def _unsuitable(facts: Facts, recall: float, storage: Storage) -> str | None:
    """Say why an index can't have a storage.

    README: up to 2,000 dimensions for vector, 4,000 for halfvec, 64,000 for bit. One bit per number keeps the
    direction only, so it serves neither L2 nor the length in an inner product.
    """
    most = MAX_INDEXED_DIMENSIONS[storage]
    if facts.dimensions > most:
        return f"an index over {storage.value} takes at most {most:,} dimensions"
    if storage is Storage.HALFVEC and facts.sample.largest > LARGEST_HALF:
        return f"a vector has a number over {LARGEST_HALF:,.0f}, which a halfvec can't have, so writes would fail"
    if storage is Storage.BIT:
        if facts.metric is not Metric.COSINE:
            return f"one bit per number keeps the direction only, and the metric is {facts.metric.value}"
        if facts.sample.bit_recall is None:
            return "too few vectors to try one bit per number"
        if facts.sample.bit_recall < recall - _GAINED_BY_RANKING:
            return (
                f"one bit per number loses too much: of the nearest neighbours in a sample of "
                f"{facts.sample.vectors:,}, {share(facts.sample.bit_recall)} are among its candidates"
            )
    return None


def _method_reasons(facts: Facts, chosen: _Candidate, allowed: str) -> Iterator[str]:
    if chosen.method is Method.HNSW:
        yield (
            "HNSW finds more per millisecond than IVFFlat, and stays good while rows come and go "
            f"(pgvector's README); it takes {size(chosen.bytes)}, and {size(chosen.memory)} with its build"
        )
    else:
        yield (
            f"IVFFlat, because an HNSW graph doesn't fit into {allowed}: it takes {size(chosen.bytes)} and is "
            "built quickly, but needs more time for the same recall (pgvector's README)"
        )
        yield "its lists are those of the rows that exist at the build: build it after the backfill"
        if facts.churn_per_day and facts.churn_per_day > CHURN * facts.vectors:
            changed = share(facts.churn_per_day / facts.vectors)
            yield f"{changed} of the vectors change per day: rebuild it every month"
    if chosen.storage is Storage.HALFVEC and facts.column is Storage.VECTOR:
        kept = facts.sample.half_recall
        seen = "" if kept is None else f": in a sample, {share(kept)} of the nearest neighbours are the same"
        yield f"half the precision halves the index{seen}; candidates are ranked again by the full vectors"
    if chosen.storage is Storage.BIT:
        yield (
            "one bit per number makes the smallest index; candidates are ranked again by the full vectors. In a "
            f"sample, {share(facts.sample.bit_recall or 0)} of the neighbours are among them, in all rows fewer"
        )


def _choice(
    facts: Facts, goal: Goal, rows: int, chosen: _Candidate, reasons: list[str], problems: list[Problem]
) -> Choice:
    hnsw = chosen.method is Method.HNSW
    lists = default_lists(rows)
    storage = None if chosen.storage is facts.column else chosen.storage
    plan = IndexPlan(method=chosen.method, storage=storage, recall=goal.recall)
    if hnsw:
        plan = replace(plan, m=chosen.tuning.m, ef_construction=chosen.tuning.ef_construction)
    else:
        plan = replace(plan, lists=lists)
    same = [each for each in facts.existing if (each.method, each.storage) == (chosen.method, chosen.storage)]
    good = _good_enough(facts)
    keep = good if good in same else same[0] if same else None
    measured = (
        facts.measured
        if keep is not None and facts.measured is not None and facts.measured.index == keep.name
        else None
    )
    if measured is not None and measured.value is None:
        problems.append(_missed(facts, goal, measured))
        if keep is not None and not _weaker(keep, plan):
            plan = _stronger(plan)
        keep = None
    value = measured.value if measured is not None else None
    bugs = known_bugs(facts.pgvector, bits=facts.bits, methods={chosen.method.value})
    reasons += _bug_reasons(facts, bugs)
    reasons += _setting_reasons(facts, goal, chosen, measured)
    if value is not None and measured is not None and goal.latency is not None and measured.p95 > goal.latency:
        problems.append(
            Problem(
                f"95 % of the searches take up to {milliseconds(measured.p95)}, and "
                f"{milliseconds(goal.latency)} are allowed",
                "ask for less recall, raise shared_buffers, or make the index smaller with --memory",
            )
        )
    if goal.latency is not None and goal.latency < FASTEST:
        problems.append(
            Problem(
                f"a search through an index takes {milliseconds(FASTEST)} or more, also with everything in memory",
                "ask for --latency-ms 5 or more, and keep frequent results in the application's cache",
            )
        )
    return Choice(
        plan=plan,
        rows=rows,
        storage=chosen.storage,
        setting="hnsw.ef_search" if hnsw else "ivfflat.probes",
        value=value or _start(chosen, lists, goal.recall),
        measured=value is not None,
        keep=keep,
        bytes=chosen.bytes,
        build_memory_bytes=chosen.build,
        build_time=build_time(rows, facts.build) if hnsw and facts.build is not None else None,
        alone=any(bug.workaround == BUILD_ALONE for bug in bugs),
        reasons=tuple(reasons),
        problems=tuple(problems),
    )


def _start(chosen: _Candidate, lists: int, recall: float) -> int:
    """Return the value to begin with. With bits, `ef_search` rows are ranked again, so it is larger (0091)."""
    if chosen.method is Method.IVFFLAT:
        return probes(lists, recall)
    wide = _WIDER_FOR_BITS if chosen.storage is Storage.BIT else 1
    return min(_MOST_EF_SEARCH, wide * chosen.tuning.ef_search)


def _bug_reasons(facts: Facts, bugs: list[Bug]) -> Iterator[str]:
    for bug in bugs:
        yield f"pgvector {facts.pgvector} has a bug that {bug.fixed_in} fixes: {bug.label}"


def _setting_reasons(facts: Facts, goal: Goal, chosen: _Candidate, measured: Measured | None) -> Iterator[str]:
    if measured is not None and measured.value is not None:
        yield (
            f"measured with {measured.queries:,} stored vectors as queries: recall {measured.recall:.3f} with "
            f"{measured.value} through {measured.index}. Real queries are harder: pgvector-sync index recall "
            f"{facts.pipeline} --queries-file F --sweep"
        )
    elif measured is None:
        yield (
            "the value for searches is a start value, since vectors differ: after the build, "
            f"`pgvector-sync index recall {facts.pipeline} --sweep` measures the one that reaches {goal.recall:g}"
        )
    if chosen.method is Method.HNSW and facts.build is None:
        yield "the time of the build isn't predicted, since no build of this pipeline was measured yet"


def _missed(facts: Facts, goal: Goal, measured: Measured) -> Problem:
    return Problem(
        f"{measured.index} doesn't reach {goal.recall:g} with any setting: at most {measured.recall:.3f}",
        f"build the advised index, then measure again: pgvector-sync index recall {facts.pipeline} --sweep",
    )


def _weaker(index: Existing, plan: IndexPlan) -> bool:
    if plan.method is Method.IVFFLAT:
        return True
    return (index.m or 16, index.ef_construction or 64) < (plan.m, plan.ef_construction)


def _stronger(plan: IndexPlan) -> IndexPlan:
    return replace(
        plan, m=min(100, plan.m * 2), ef_construction=min(1_000, max(plan.ef_construction * 2, plan.m * 4))
    )
