"""What to consider when reading the figures of a measurement. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pgvector_sync.index.recall.report import MeasuredIndex, RecallRequest, SettingResult, Source
from pgvector_sync.index.recall.statistics import least_queries
from pgvector_sync.model.counted import counted


def findings(
    request: RecallRequest,
    index: MeasuredIndex,
    results: Sequence[SettingResult],
    *,
    source: Source,
    queries: int,
    rows: int,
    target: float,
    flat: bool,
) -> Iterator[str]:
    """Say what the figures don't show, or why they mislead.

    queries: the number that were asked.
    flat: whether the neighbours of each query are all at the same distance.
    """
    if source == "rows":
        yield "the queries are vectors of rows, for which recall is often higher than for real queries"
        if queries < request.queries:
            yield f"only {counted(queries, 'row')} could be queries, {request.queries:,} were wanted"
    answered = results[0].queries
    if answered < queries:
        yield f"{queries - answered:,} queries weren't counted: no vector is at a distance from them"
    if rows <= request.k:
        yield f"k is {request.k:,}, and only {rows:,} vectors may be neighbours: each search should return all"
    if flat:
        yield "the neighbours of each query are all at the same distance, so any row counts as found"
    if target >= 1:
        yield "no number of queries can show a recall of 1: measure with a lower target, such as 0.99"
    elif answered < (least := least_queries(target)):
        yield f"{answered:,} queries are too few to show a recall of {target:g}: at least {least:,} are needed"
    if unplanned := [result for result in results if not result.planned]:
        some = "with these settings" if len(unplanned) == len(results) else f"with {_settings(unplanned)}"
        yield (
            f"Postgres doesn't choose {index.name} by itself {some}: such searches are exact or use another "
            "index. They were made to use it here"
        )
    wanted = min(request.k, rows)
    short = [each for each in results if each.iterative == "off" and each.rows_returned_mean < 0.99 * wanted]
    if short:
        why = "" if request.where is None else ", because an index doesn't know the condition"
        yield (
            f"without iterative scan, searches return {short[0].rows_returned_mean:,.1f} of {wanted:,} rows with "
            f"{short[0].name} = {short[0].value}{why}"
        )


def _settings(results: Sequence[SettingResult]) -> str:
    values = list(dict.fromkeys(result.value for result in results))
    return f"{results[0].name} = {', '.join(map(str, values))}"
