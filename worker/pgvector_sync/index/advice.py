"""Which index a pipeline should have: none, HNSW or IVFFlat, over which storage, with which parameters. Pure.

The rules about candidates are in `candidates`; those here are measurements of ours in
docs/decisions/0091-advised-indexes.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from pgvector_sync.index import reasons as why
from pgvector_sync.index.candidates import Candidate, candidates, start_value
from pgvector_sync.index.capacity import build_time
from pgvector_sync.index.facts import Existing, Facts, Goal, Measured, Problem
from pgvector_sync.index.known_bugs import BUILD_ALONE, known_bugs
from pgvector_sync.index.pages import DEFAULT_LISTS, default_lists
from pgvector_sync.index.phrases import milliseconds, size
from pgvector_sync.model import IndexPlan, Method, Storage

LATENCY = timedelta(milliseconds=50)
"""The time of an exact search up to which no index is advised, unless another time is asked for."""
HORIZON = timedelta(days=90)
"""How far growth is planned for."""
FASTEST = timedelta(milliseconds=1)
"""What an HNSW search took among 100,000 vectors with everything in memory (decision 0091)."""


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


def advise(facts: Facts, goal: Goal) -> Choice:
    """Choose an index."""
    if unusable := _unusable(facts):
        return _exact(facts, facts.vectors, [], [unusable])
    rows = _planned(facts)
    reasons = list(why.of_size(facts, rows, HORIZON))
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
    possible = list(candidates(facts, goal, rows, rejected))
    fitting = [each for each in possible if each.memory <= memory]
    if not possible:
        problems.append(
            Problem(
                f"no index of pgvector takes these vectors: {'; '.join(rejected)}",
                "use a model, or `dimensions`, with fewer numbers",
            )
        )
        return _exact(facts, rows, reasons, problems)
    good = _good_enough(facts)
    as_good = [each for each in fitting if good and (each.method, each.storage) == (good.method, good.storage)]
    chosen = next(iter([*as_good, *fitting]), None) or min(possible, key=lambda each: each.memory)
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
        for each in possible[: possible.index(chosen)]
    ]
    reasons += [*why.of_method(facts, chosen, allowed), *(f"not chosen: {each}" for each in rejected)]
    return _choice(facts, goal, rows, chosen, reasons, problems)


def _good_enough(facts: Facts) -> Existing | None:
    """Return the index that was measured and reaches the recall. Building another would be work for nothing."""
    if facts.measured is None or facts.measured.value is None:
        return None
    return next((each for each in facts.existing if each.name == facts.measured.index), None)


def _choice(
    facts: Facts, goal: Goal, rows: int, chosen: Candidate, reasons: list[str], problems: list[Problem]
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
    if keep is not None:  # with its own parameters, so that the file doesn't have it built again
        plan = _of_existing(plan, keep)
    value = measured.value if measured is not None else None
    bugs = known_bugs(facts.pgvector, bits=facts.bits, methods={chosen.method.value})
    reasons += why.of_bugs(facts, bugs)
    reasons += why.of_setting(facts, goal, chosen, measured)
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
        value=value or start_value(chosen, plan.lists or lists, goal.recall),
        measured=value is not None,
        keep=keep,
        bytes=chosen.bytes,
        build_memory_bytes=chosen.build,
        build_time=build_time(rows, facts.build) if hnsw and facts.build is not None else None,
        alone=any(bug.workaround == BUILD_ALONE for bug in bugs),
        reasons=tuple(reasons),
        problems=tuple(problems),
    )


def _missed(facts: Facts, goal: Goal, measured: Measured) -> Problem:
    return Problem(
        f"{measured.index} doesn't reach {goal.recall:g} with any setting: at most {measured.recall:.3f}",
        f"build the advised index, then measure again: pgvector-sync index recall {facts.pipeline} --sweep",
    )


def _weaker(index: Existing, plan: IndexPlan) -> bool:
    if plan.method is Method.IVFFLAT:
        return True
    return (index.m or 16, index.ef_construction or 64) < (plan.m, plan.ef_construction)


def _of_existing(plan: IndexPlan, index: Existing) -> IndexPlan:
    """Return a plan with the parameters of an index. Those that it doesn't have are pgvector's defaults."""
    if index.method is Method.IVFFLAT:
        return replace(plan, lists=index.lists or DEFAULT_LISTS)
    usual = IndexPlan()
    return replace(plan, m=index.m or usual.m, ef_construction=index.ef_construction or usual.ef_construction)


def _stronger(plan: IndexPlan) -> IndexPlan:
    return replace(
        plan, m=min(100, plan.m * 2), ef_construction=min(1_000, max(plan.ef_construction * 2, plan.m * 4))
    )
