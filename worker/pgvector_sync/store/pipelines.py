"""Pipelines, their sources and providers, and the states between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import time, timedelta
from typing import Any

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import statement
from pgvector_sync.errors import Refused
from pgvector_sync.model import (
    KeyColumn,
    Metric,
    Need,
    Pipeline,
    Provider,
    Schedule,
    Source,
    Spec,
    State,
    VectorType,
)
from pgvector_sync.store import sources


def all_pipelines(connection: Connection) -> list[Pipeline]:
    return [_pipeline(row) for row in connection.execute(statement("pipelines.all"), {"name": None})]


def find_pipeline(connection: Connection, name: str) -> Pipeline | None:
    row = connection.execute(statement("pipelines.all"), {"name": name}).fetchone()
    return None if row is None else _pipeline(row)


def require_pipeline(connection: Connection, name: str) -> Pipeline:
    """Raises Refused with the names that exist."""
    found = find_pipeline(connection, name)
    if found is None:
        names = [pipeline.name for pipeline in all_pipelines(connection)]
        raise Refused(
            f"there is no pipeline {name}",
            hint=f"there is {', '.join(names)}" if names else "declare one and run `pgvector-sync apply`",
        )
    return found


def _pipeline(row: dict[str, Any]) -> Pipeline:
    key = tuple(KeyColumn(*pair) for pair in zip(row["key_columns"], row["key_types"], strict=True))
    return Pipeline(
        id=row["id"],
        name=row["name"],
        source=Source(row["source_id"], row["schema_name"], row["table_name"], key),
        target_schema=row["target_schema"],
        target_table=row["target_table"],
        text_sql=row["text_sql"],
        where_sql=row["where_sql"],
        read_columns=tuple(row["read_columns"]),
        needs=tuple(Need(*need) for need in row["needs"]),
        text_given=row["text_given"],
        where_given=row["where_given"],
        provider=_provider({**row, "name": row["provider"]}),
        spec=Spec(row["model"], row["dimensions"], row["chunking"]),
        spec_version=row["spec_version"],
        metric=Metric(row["metric"]),
        vector_type=VectorType(row["vector_type"]),
        batch_size=row["batch_size"],
        state=State(row["state"]),
        reason=row["reason"],
        retry_at=row["retry_at"],
        problem=row["problem"],
        problem_stops=row["problem_stops"],
        tokens_per_day=row["tokens_per_day"],
        usd_per_million_tokens=row["usd_per_million_tokens"],
        schedule=schedule_of(row["reconcile"]),
    )


def schedule_of(stored: dict[str, Any]) -> Schedule:
    """As it is stored; what isn't there is the default. Durations are seconds, times `HH:MM:SS`."""
    given = dict(stored)
    for name in ("every", "deep_every"):
        if given.get(name) is not None:
            given[name] = timedelta(seconds=given[name])
    if given.get("window") is not None:
        given["window"] = tuple(map(time.fromisoformat, given["window"]))
    return Schedule(**given)


def schedule_json(schedule: Schedule) -> dict[str, Any]:
    """What differs from the defaults, as it is stored."""
    stored = {
        name: value
        for name, value in asdict(schedule).items()
        if value != Schedule.__dataclass_fields__[name].default
    }
    for name in {"every", "deep_every"} & stored.keys():
        if stored[name] is not None:
            stored[name] = stored[name].total_seconds()
    if stored.get("window") is not None:
        stored["window"] = [at.isoformat() for at in stored["window"]]
    return stored


def _provider(row: dict[str, Any]) -> Provider:
    return Provider(
        name=row["name"],
        base_url=row["base_url"],
        api_key_env=row["api_key_env"],
        requests_per_minute=row["requests_per_minute"],
        tokens_per_minute=row["tokens_per_minute"],
        send_dimensions=row["send_dimensions"],
        encoding=row["encoding"],
        dialect=row["dialect"],
    )


def providers(connection: Connection) -> dict[str, Provider]:
    return {row["name"]: _provider(row) for row in connection.execute(statement("pipelines.providers"))}


def put_provider(connection: Connection, provider: Provider) -> None:
    connection.execute(
        statement("pipelines.put_provider"),
        {field: getattr(provider, field) for field in Provider.__dataclass_fields__},
    )
    connection.execute(statement("pipelines.provider_changed"), {"provider": provider.name})


def add(connection: Connection, values: Mapping[str, Any]) -> int:
    """A new pipeline, with the values of its columns; returns its id."""
    return int(one(connection, statement("pipelines.add"), dict(values))["id"])


def change(connection: Connection, pipeline_id: int, values: Mapping[str, Any], *, bump: bool) -> bool:
    """Stores what is declared now; with `bump`, batches that were claimed before are fenced off. False while it is
    being removed.
    """
    params = {**values, "id": pipeline_id, "bump": bump}
    return connection.execute(statement("pipelines.change"), params).rowcount == 1


def rekey(connection: Connection, source: Source, before: Sequence[KeyColumn]) -> dict[str, int]:
    """Fences off what was claimed under the old key, for all pipelines of a source; returns their ids by name."""
    params = {
        "id": source.id,
        "columns_before": [column.name for column in before],
        "key_columns": [column.name for column in source.key],
    }
    return {row["name"]: row["id"] for row in connection.execute(statement("pipelines.rekey"), params)}


def start_removing(connection: Connection, pipeline: Pipeline) -> None:
    """From the commit on nothing is claimed, drained or written for it."""
    connection.execute(statement("pipelines.removing"), {"id": pipeline.id})


def hold(connection: Connection, pipeline: Pipeline) -> bool:
    """The first step of a write: True while the pipeline is the one that was claimed. Holds it until commit."""
    params = {"id": pipeline.id, "spec_version": pipeline.spec_version}
    return connection.execute(statement("pipelines.hold"), params).rowcount == 1


def take_probe(connection: Connection, pipeline: Pipeline, *, hold_for: timedelta) -> bool:
    """True for the one worker that may try a provider in cool-down; the others wait for what it finds."""
    params = {"id": pipeline.id, "hold": hold_for}
    return connection.execute(statement("pipelines.take_probe"), params).rowcount == 1


def release_probe(connection: Connection, pipeline: Pipeline) -> None:
    """There was nothing to probe with; the next may try at once."""
    connection.execute(statement("pipelines.release_probe"), {"id": pipeline.id})


def recovered(connection: Connection, pipeline: Pipeline) -> bool:
    """A probe succeeded. False if the pipeline had been paused or resumed meanwhile."""
    return connection.execute(statement("pipelines.recovered"), {"id": pipeline.id}).rowcount == 1


def provider_failed(
    connection: Connection,
    pipeline: Pipeline,
    *,
    state: State,
    reason: str,
    retry_after: timedelta | None,
    probe: bool,
    backoff_first: timedelta,
    backoff_longest: timedelta,
) -> bool:
    """Into `cooling_down` or `misconfigured`. False if another batch has said so before us."""
    params = {
        "id": pipeline.id,
        "state": state,
        "reason": reason,
        "retry_after": retry_after,
        "probe": probe,
        "backoff_first": backoff_first,
        "backoff_longest": backoff_longest,
    }
    return connection.execute(statement("pipelines.provider_failed"), params).rowcount == 1


def rate_limited(connection: Connection, pipeline: Pipeline) -> int:
    """The limit is the model's, not the pipeline's: the others that use it cool down until the same moment."""
    return connection.execute(statement("pipelines.rate_limited"), {"id": pipeline.id}).rowcount


def pause(connection: Connection, name: str, reason: str | None) -> bool:
    """False if it was paused already."""
    return connection.execute(statement("pipelines.pause"), {"name": name, "reason": reason}).rowcount == 1


def resume(connection: Connection, name: str) -> bool:
    """False if it was running already."""
    return connection.execute(statement("pipelines.resume"), {"name": name}).rowcount == 1


def forget(connection: Connection, pipeline: Pipeline) -> None:
    """Takes the pipeline out of all our tables; the source and the provider too, if nobody needs them."""
    connection.execute(statement("pipelines.hold_runs"), {"id": pipeline.id})
    if one(connection, statement("pipelines.forget"), {"id": pipeline.id})["gone"] != 1:
        raise Refused(f"{pipeline.name} was removed by somebody else", hint="nothing is left to do")
    sources.forget(connection, pipeline.source.id)
    connection.execute(statement("pipelines.forget_providers"))
