"""Pipelines, their providers, and changes of their state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from functools import cache
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import statement
from pgvector_sync.errors import Refused, UnknownPipeline
from pgvector_sync.model import (
    OPTIONS,
    KeyColumn,
    Need,
    Options,
    Pipeline,
    Provider,
    SearchEffort,
    Source,
    Spec,
    State,
)
from pgvector_sync.store import learned, sources
from pgvector_sync.store.parsing import Expressions

_PROVIDER = tuple(field.name for field in fields(Provider))
_COLUMNS = tuple(option.column for option in OPTIONS.values())


def _names(columns: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def _values(columns: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Placeholder, columns))


@cache
def _all() -> sql.Composed:
    return statement("pipelines.all").format(
        pipeline_options=sql.SQL(", ").join(sql.Identifier("p", column) for column in _COLUMNS),
        provider=sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(sql.Identifier("r", column), sql.Identifier(f"provider_{column}"))
            for column in _PROVIDER
        ),
    )


def all_pipelines(connection: Connection) -> list[Pipeline]:
    """Returns all pipelines, ordered by name."""
    return [_pipeline(row) for row in connection.execute(_all(), {"name": None})]


def find_pipeline(connection: Connection, name: str) -> Pipeline | None:
    """Returns the pipeline with this name; None if there is none."""
    if "\0" in name:  # Postgres rejects NUL in a text
        return None
    row = connection.execute(_all(), {"name": name}, prepare=True).fetchone()
    return None if row is None else _pipeline(row)


def require_pipeline(connection: Connection, name: str) -> Pipeline:
    """Returns the pipeline with this name. Raises UnknownPipeline."""
    pipeline = find_pipeline(connection, name)
    if pipeline is None:
        names = [each.name for each in all_pipelines(connection)]
        raise UnknownPipeline(
            f"there is no pipeline {name}",
            hint=f"known pipelines: {', '.join(names)}" if names else "declare one and run `pgvector-sync apply`",
        )
    return pipeline


def _pipeline(row: dict[str, Any]) -> Pipeline:
    key = tuple(KeyColumn(*pair) for pair in zip(row["key_columns"], row["key_types"], strict=True))
    options = _options(row)
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
        provider=Provider(**{column: row[f"provider_{column}"] for column in _PROVIDER}),
        spec=Spec.of_documents(options, chunking=row["chunking"]),
        spec_version=row["spec_version"],
        options=options,
        state=State(row["state"]),
        reason=row["reason"],
        retry_at=row["retry_at"],
        learned=learned.read(row["learned"], due=row["learned_due"]),
        problem=row["problem"],
        problem_stops=row["problem_stops"],
        search_effort=SearchEffort(row["ef_search"], row["probes"]),
    )


def _options(row: dict[str, Any]) -> Options:
    return Options(**{name: option.read(row[option.column]) for name, option in OPTIONS.items()})


def _stored(options: Options) -> dict[str, Any]:
    """The values to store, by column."""
    return _params({option.column: option.write(getattr(options, name)) for name, option in OPTIONS.items()})


def _params(values: Mapping[str, Any]) -> dict[str, Any]:
    """Converts dictionaries to jsonb."""
    return {column: Jsonb(value) if isinstance(value, dict) else value for column, value in values.items()}


def add(
    connection: Connection,
    name: str,
    *,
    source: Source,
    target: tuple[str, str],
    meant: Expressions,
    read_columns: Iterable[str],
    options: Options,
) -> int:
    """Adds a pipeline; returns its id."""
    values = {
        "name": name,
        "source_id": source.id,
        "target_schema": target[0],
        "target_table": target[1],
        **_stored_meaning(meant, read_columns),
        **_stored(options),
    }
    query = statement("pipelines.add").format(options=_names(_COLUMNS), option_values=_values(_COLUMNS))
    return int(one(connection, query, values)["id"])


def change(
    connection: Connection,
    pipeline: Pipeline,
    *,
    meant: Expressions,
    read_columns: Iterable[str],
    options: Options,
    bump: bool,
) -> bool:
    """Updates a pipeline. Returns False if it is being removed.

    bump: fence off every batch that was claimed before.
    """
    values = {
        "id": pipeline.id,
        "bump": bump,
        **_stored_meaning(meant, read_columns),
        **_stored(options),
    }
    query = statement("pipelines.change").format(options=_names(_COLUMNS), option_values=_values(_COLUMNS))
    return connection.execute(query, values).rowcount == 1


def _stored_meaning(meant: Expressions, read_columns: Iterable[str]) -> dict[str, Any]:
    return {
        "text_sql": meant.text,
        "where_sql": meant.where,
        "read_columns": list(read_columns),
        "needs": Jsonb([need.as_json() for need in meant.depends]),
    }


def providers(connection: Connection) -> dict[str, Provider]:
    """Returns the stored providers, by name."""
    query = statement("pipelines.providers").format(provider_columns=_names(_PROVIDER))
    return {row["name"]: Provider(**row) for row in connection.execute(query)}


def put_provider(connection: Connection, provider: Provider) -> None:
    """Adds or updates a provider. Forgets what was learned about it, and lets pipelines that wait try at once."""
    query = statement("pipelines.put_provider").format(
        provider_columns=_names(_PROVIDER), provider_values=_values(_PROVIDER)
    )
    connection.execute(query, _params({column: getattr(provider, column) for column in _PROVIDER}))
    learned.forget(connection, provider.name)
    connection.execute(statement("pipelines.provider_changed"), {"provider": provider.name})


def rekey(connection: Connection, source: Source, before: Sequence[KeyColumn]) -> dict[str, int]:
    """Fences off what was claimed under the old key, in all pipelines of a source; returns their ids by name."""
    params = {
        "id": source.id,
        "columns_before": [column.name for column in before],
        "key_columns": [column.name for column in source.key],
    }
    return {row["name"]: row["id"] for row in connection.execute(statement("pipelines.rekey"), params)}


def start_removing(connection: Connection, pipeline: Pipeline) -> None:
    """Starts the removal of a pipeline. From the commit on nothing is claimed, drained or written for it."""
    connection.execute(statement("pipelines.removing"), {"id": pipeline.id})


def hold(connection: Connection, pipeline: Pipeline) -> bool:
    """Locks the pipeline until commit, as the first step of a write. False if it has changed since the claim."""
    params = {"id": pipeline.id, "spec_version": pipeline.spec_version}
    return connection.execute(statement("pipelines.hold"), params, prepare=True).rowcount == 1


def take_probe(connection: Connection, pipeline: Pipeline, *, hold_for: timedelta) -> bool:
    """Returns whether this worker may send the probe of a pipeline in cool-down. Only one worker may."""
    params = {"id": pipeline.id, "hold": hold_for}
    return connection.execute(statement("pipelines.take_probe"), params).rowcount == 1


def release_probe(connection: Connection, pipeline: Pipeline) -> None:
    """Lets the next probe be sent at once, because there was nothing to probe with."""
    connection.execute(statement("pipelines.release_probe"), {"id": pipeline.id})


def recovered(connection: Connection, pipeline: Pipeline) -> bool:
    """Makes a pipeline active after a successful probe. Returns False if it was paused or resumed meanwhile."""
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
    """Sets the state to `cooling_down` or `misconfigured`. Returns False if another batch has done so before."""
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
    """Cools down the other pipelines of the provider and model, which share the rate limit; returns how many."""
    return connection.execute(statement("pipelines.rate_limited"), {"id": pipeline.id}).rowcount


def pause(connection: Connection, name: str, reason: str | None) -> bool:
    """Pauses a pipeline. Returns False if it is already paused."""
    return connection.execute(statement("pipelines.pause"), {"name": name, "reason": reason}).rowcount == 1


def resume(connection: Connection, name: str) -> bool:
    """Resumes a pipeline. Returns False if it is already active."""
    return connection.execute(statement("pipelines.resume"), {"name": name}).rowcount == 1


def forget(connection: Connection, pipeline: Pipeline) -> None:
    """Deletes a pipeline from all our tables, and its source and provider if no other pipeline uses them."""
    connection.execute(statement("pipelines.hold_runs"), {"id": pipeline.id})
    if one(connection, statement("pipelines.forget"), {"id": pipeline.id})["gone"] != 1:
        raise Refused(f"{pipeline.name} was removed by another command", hint="nothing is left to do")
    sources.forget(connection, pipeline.source.id)
    connection.execute(statement("pipelines.forget_providers"))
