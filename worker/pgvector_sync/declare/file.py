"""`pgvector-sync.toml`: the providers and pipelines that a user declares, checked and frozen.

Only `apply` reads the file. Everything wrong in it is reported at once, each with its key, what was expected
and what was given; what may be a secret is never repeated (G13).
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from pgvector_sync.embedding.dialects import DIALECTS, built_in_providers, dialect_of
from pgvector_sync.errors import ConfigError
from pgvector_sync.model import Metric, Provider, Schedule, VectorType
from pgvector_sync.settings import is_never_a_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MINIMAL = """\
[pipelines.articles]
source = "public.articles"
text = ["title", "body"]
provider = "openai"
model = "text-embedding-3-small"
dimensions = 1536
"""

BUILT_IN = built_in_providers()
"""Providers that need no section of their own."""
DAILY = Schedule()
"""The schedule of reconciliations where the file says nothing."""


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """A pipeline as declared. What the file leaves open (a schema, the key) `apply` finds in the database.

    Exactly one of `text_columns` and `text_sql` is set. Names are as the catalog has them: folded to lower
    case where the file doesn't quote them. `target` is (schema or None, table).
    """

    name: str
    source_schema: str | None
    source_table: str
    text_columns: tuple[str, ...] | None
    text_sql: str | None
    where: str | None
    provider: str
    model: str
    dimensions: int
    metric: Metric
    vector_type: VectorType
    batch_size: int | None
    key: tuple[str, ...] | None
    target: tuple[str | None, str] | None
    capture_replicated: bool
    tokens_per_day: int | None = None
    schedule: Schedule = DAILY
    usd_per_million_tokens: Decimal | None = None
    """From the section [prices], by the pipeline's model."""


@dataclass(frozen=True, slots=True)
class Config:
    """A whole file. `providers` holds those declared, and the built-in ones that a pipeline names."""

    path: Path
    providers: dict[str, Provider]
    pipelines: dict[str, PipelineConfig]


def load_config(path: Path) -> Config:
    """Read and check the file. Raises ConfigError with the first problem's key, the further ones below it."""
    problems = _Problems()
    providers: dict[str, Provider] = {}
    pipelines: dict[str, PipelineConfig] = {}
    if file := problems.checked(_File, _read(path)):
        providers = dict(_providers(file, problems))
        pipelines = dict(_pipelines(file, BUILT_IN | providers, problems))
        _check_targets(pipelines, problems)
        if not file.pipelines:
            problems.append(("pipelines", "expected at least one [pipelines.NAME], found none"))
    if problems:
        (key, message), *others = problems
        further = "".join(f"\n{path}: {other}: {what}" for other, what in others)
        raise ConfigError(message + further, where=str(path), key=key)
    named = {pipeline.provider for pipeline in pipelines.values()}
    built_in = {name: provider for name, provider in BUILT_IN.items() if name in named}
    return Config(path=path, providers=built_in | providers, pipelines=pipelines)


def _read(path: Path) -> dict[str, Any]:
    where = str(path)
    try:
        # A byte order mark, which some Windows editors write, isn't TOML.
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError("no such file", where=where, hint=f"write one such as\n\n{MINIMAL}") from None
    except OSError as error:  # a directory, no permission
        raise ConfigError(f"can't be read: {error.strerror}", where=where) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"expected UTF-8, found another encoding in line {line}", where=where) from None
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # absurd numbers and nesting aren't TOMLDecodeErrors
        raise ConfigError(f"not valid TOML: {error}", where=where) from None


def _columns(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise ValueError('expected a list of column names such as ["title", "body"]')
    if len(set(value)) < len(value):
        raise ValueError("expected each column once")
    return tuple(map(_fits, value))


def _text(value: object) -> tuple[tuple[str, ...] | None, str | None]:
    """(columns, None) or (None, an SQL expression)."""
    if not isinstance(value, dict):
        return _columns(value), None
    if value.keys() != {"sql"} or not isinstance(value["sql"], str):
        raise ValueError('expected text.sql = "an expression over the row" and nothing else')
    return None, _sql(value["sql"])


_NAME = r'"(?:[^"]|"")+"|[^\W\d][\w$]*'
_TABLE = re.compile(rf"\s*(?:({_NAME})\.)?({_NAME})\s*")


def _table(value: object) -> tuple[str | None, str]:
    """`table` or `schema.table`, quoted or folded as in SQL."""
    match = _TABLE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("""expected "table", "schema.table" or 'schema."Quoted Name"'""")
    schema, table = match.groups()
    return (_folded(schema) if schema else None), _folded(table)


def _folded(name: str) -> str:
    return _fits(name[1:-1].replace('""', '"') if name.startswith('"') else name.lower())


def _fits(name: str) -> str:
    # Postgres would cut a longer name silently, and then find another table or none.
    if not name.strip() or "\0" in name or len(name.encode()) > 63:
        raise ValueError("expected names of 1 to 63 bytes")
    return name


def _sql(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise ValueError("expected an SQL expression")
    return value.strip()


def _url(value: str) -> str:
    if not re.fullmatch(r"https?://(\[[0-9a-fA-F:.]+\]|[\w.-]+)(:\d{1,5})?(/[^\s?#@]*)?", value):
        raise ValueError("expected http(s)://host[:port]/path, without user, password, query and fragment")
    return value.rstrip("/")


def _variable(value: str) -> str:
    # Upper case only: a pasted key has lower-case letters, and would otherwise end up in a table of ours.
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):
        raise ValueError("expected the name of an environment variable, such as OPENAI_API_KEY, never a key")
    if is_never_a_key(value):
        raise ValueError(
            f"expected the variable of a provider's key; {value} holds something else, and is never sent"
        )
    return value


class _Section(BaseModel):
    # Strict, since a "1536" that silently becomes a number hides the mistake that comes next.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Provider(_Section):
    dialect: str | None = None
    base_url: Annotated[str, AfterValidator(_url)] | None = None
    api_key_env: Annotated[str, AfterValidator(_variable)] | None = None
    requests_per_minute: int | None = Field(None, ge=1)
    tokens_per_minute: int | None = Field(None, ge=1)
    send_dimensions: bool = True
    encoding: Literal["base64", "float"] = "base64"


_DURATION = re.compile(r"(\d{1,6})(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _duration(value: object) -> timedelta | None:
    """`90s`, `30m`, `6h`, `1d`; `off` is None."""
    if value == "off":
        return None
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) == 0:
        raise ValueError('expected a duration such as "30m", "6h" or "1d", or "off"')
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _window(value: object) -> tuple[time, time]:
    """`22:00-05:00`, over midnight if need be."""
    try:
        begin, _, end = value.partition("-") if isinstance(value, str) else ("", "", "")
        window = time.fromisoformat(begin.strip()), time.fromisoformat(end.strip())
    except ValueError:
        window = time(), time()
    if window[0] == window[1] or any(at.tzinfo for at in window):
        raise ValueError('expected two times of the day in UTC, such as "22:00-05:00"')
    return window


def _cron(value: str) -> str:
    from cronsim import CronSim, CronSimError

    try:
        CronSim(value, datetime.now(UTC))
    except CronSimError as error:
        raise ValueError(f"expected five fields of cron, such as 0 3 * * *: {error}") from None
    return value


class _Reconcile(_Section):
    every: Annotated[timedelta | None, PlainValidator(_duration)] = DAILY.every
    cron: Annotated[str, AfterValidator(_cron)] | None = None
    deep_every: Annotated[timedelta | None, PlainValidator(_duration)] = DAILY.deep_every
    window: Annotated[tuple[time, time], PlainValidator(_window)] | None = None
    page_rows: int = Field(DAILY.page_rows, ge=1, le=1_000_000)
    database_share: float = Field(DAILY.database_share, gt=0, le=1)
    orphan_share: float = Field(DAILY.orphan_share, ge=0, le=1)


class _Pipeline(_Section):
    source: Annotated[tuple[str | None, str], PlainValidator(_table)]
    text: Annotated[tuple[tuple[str, ...] | None, str | None], PlainValidator(_text)]
    where: Annotated[str, AfterValidator(_sql)] | None = None
    provider: str
    model: str | None = Field(None, min_length=1)
    dimensions: int | None = Field(None, ge=1, le=16_000)  # the most that a vector or halfvec column holds
    metric: Metric = Field(Metric.COSINE, strict=False)
    vector_type: VectorType = Field(VectorType.VECTOR, strict=False)
    batch_size: int | None = Field(None, ge=1, le=2048)  # the most inputs that one request may hold
    key: Annotated[tuple[str, ...], PlainValidator(_columns)] | None = None
    target: Annotated[tuple[str | None, str], PlainValidator(_table)] | None = None
    capture_replicated: bool = False
    tokens_per_day: int | None = Field(None, ge=1)
    reconcile: dict[str, Any] = {}


class _File(_Section):
    providers: dict[str, dict[str, Any]] = {}
    pipelines: dict[str, dict[str, Any]] = {}
    prices: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    """Model → US dollars a million tokens, for estimates."""


_S = TypeVar("_S", bound=_Section)
_SECRET = re.compile(r"api_?key|secret|password|authorization|(^|_)token$", re.IGNORECASE)


class _Problems(list[tuple[str, str]]):
    """(key, message) of everything found so far, in the order of the file."""

    def checked(self, section: type[_S], values: dict[str, Any], key: str = "") -> _S | None:
        """The section's values; None where they are wrong."""
        try:
            return section.model_validate(values)
        except ValidationError as error:
            for found in error.errors(include_url=False):
                path = [key, *map(str, found["loc"])]
                message = _message(section, path[-1], found["type"], found["msg"], found["input"])
                self.append((".".join(filter(None, path)), message))
            return None


def _message(section: type[_Section], name: str, kind: str, message: str, given: object) -> str:
    fields = list(section.model_fields)
    if kind == "missing":
        return "expected, but not given"
    if name not in fields and _SECRET.search(name):
        return "secrets belong in the environment: name the variable in api_key_env"
    if kind == "extra_forbidden":
        close = get_close_matches(name, fields, n=1, cutoff=0.5)
        return f"unknown; did you mean {close[0]}?" if close else f"unknown; expected {', '.join(fields)}"
    expected = message.removeprefix("Value error, ")
    expected = expected.replace("Input should be", "expected").replace("dictionary", "table")
    if section is not _Pipeline and not isinstance(given, int):
        return expected  # it may be a key, or a URL with one
    shown = json.dumps(given, default=str, ensure_ascii=False)
    return f"{expected}; got {shown if len(shown) <= 60 else shown[:57] + '...'}"


def _providers(file: _File, problems: _Problems) -> Iterator[tuple[str, Provider]]:
    for name, values in file.providers.items():
        place = f"providers.{name}"
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,39}", name):
            problems.append((place, "expected a name of a-z, 0-9, - and _, first a letter, at most 40 long"))
        section = problems.checked(_Provider, values, place)
        if section is None:
            continue
        given = {field: getattr(section, field) for field in section.model_fields_set}
        if given.get("dialect", "openai") not in DIALECTS:
            problems.append((f"{place}.dialect", f"expected one of {', '.join(sorted(DIALECTS))}"))
            continue
        built_in = BUILT_IN.get(name)
        if built_in is None or given.get("dialect", built_in.dialect) != built_in.dialect:
            built_in = Provider(name)
        provider = replace(built_in, **given)
        problems += [(f"{place}.{field}", message) for field, message in _unfit(provider)]
        yield name, provider


def _unfit(provider: Provider) -> Iterator[tuple[str, str]]:
    """Keys that the provider's dialect has and the section lacks, or the reverse."""
    dialect = dialect_of(provider)
    if provider.api_key_env is not None and not dialect.takes_key:
        yield "api_key_env", f"the dialect {dialect.name} runs in the process and has none"
    if provider.base_url is not None and not dialect.needs_address:
        yield "base_url", f"the dialect {dialect.name} runs in the process and has none"
    if dialect.needs_address and provider.base_url is None:
        yield "base_url", "expected the endpoint's URL, but not given"
    if dialect.endpoint and provider.base_url and provider.base_url.endswith(dialect.endpoint):
        yield (
            "base_url",
            f"expected the URL without {dialect.endpoint}, which is appended to it for every call",
        )


def _pipelines(
    file: _File, providers: Mapping[str, Provider], problems: _Problems
) -> Iterator[tuple[str, PipelineConfig]]:
    known = sorted({*BUILT_IN, *file.providers})
    for name, values in file.pipelines.items():
        place = f"pipelines.{name}"
        # It becomes a part of names of tables and triggers, which Postgres cuts at 63 bytes.
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
            problems.append((place, "expected a name of a-z, 0-9 and _, first a letter, at most 40 long"))
        section = problems.checked(_Pipeline, values, place)
        if section is None:
            continue
        if section.provider not in known:
            message = f"expected one of {', '.join(known)}; got {section.provider!r}"
            problems.append((f"{place}.provider", message))
        schedule = problems.checked(_Reconcile, section.reconcile, f"{place}.reconcile")
        if schedule is None:
            continue
        if {"every", "cron"} <= schedule.model_fields_set:
            problems.append((f"{place}.reconcile", "expected every or cron, got both"))
        provider = providers.get(section.provider, Provider(section.provider))
        pipeline = _pipeline(name, section, provider, Schedule(**schedule.model_dump()), file.prices)
        for field in ("model", "dimensions"):
            if getattr(pipeline, field) is None:
                problems.append((f"{place}.{field}", "expected, but not given"))
        yield name, pipeline


def _check_targets(pipelines: dict[str, PipelineConfig], problems: _Problems) -> None:
    taken = {(p.source_schema, p.source_table): f"the source of {p.name}" for p in pipelines.values()}
    for name, pipeline in pipelines.items():
        if pipeline.target is not None:
            # Without a schema of its own a target lives beside its source.
            target = (pipeline.target[0] or pipeline.source_schema, pipeline.target[1])
            if target in taken:
                message = f"expected a table of its own, got {taken[target]}"
                problems.append((f"pipelines.{name}.target", message))
            taken[target] = f"the target of {name}"


def _pipeline(
    name: str, section: _Pipeline, provider: Provider, schedule: Schedule, prices: dict[str, float]
) -> PipelineConfig:
    given = section.model_dump(exclude={"source", "text", "reconcile"})
    given["schedule"] = schedule
    dialect = dialect_of(provider)
    given["model"] = section.model or dialect.default_model
    given["dimensions"] = section.dimensions or dialect.default_dimensions
    price = prices.get(given["model"])
    given["usd_per_million_tokens"] = None if price is None else Decimal(str(price))
    return PipelineConfig(name, *section.source, *section.text, **given)
