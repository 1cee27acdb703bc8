"""The sections of the file, derived from the options declared in `model`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import MISSING, fields
from dataclasses import Field as DataclassField
from enum import Enum
from types import UnionType
from typing import Annotated, Any, get_args, get_type_hints

from annotated_types import MinLen
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    Strict,
    create_model,
)

from pgvector_sync.declare.values import (
    Text,
    read_columns,
    read_path,
    read_prefix,
    read_proxy,
    read_sql,
    read_table,
    read_text,
    read_url,
    read_variable,
)
from pgvector_sync.model import DocumentInput, IndexPlan, Options, Provider, QueryInput, Schedule
from pgvector_sync.model.schedule import Spelling


class Section(BaseModel):
    """One table of the file."""

    # Strict, since silently converting "1536" to a number would hide mistakes.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _keys(options: type, *, without: Collection[str] = ()) -> dict[str, Any]:
    """Derive one key per field of an options dataclass, with the checks of its annotation."""
    hints = get_type_hints(options, include_extras=True)
    return {
        field.name: (_checked(hints[field.name]), _default(field))
        for field in fields(options)
        if field.name not in without
    }


def _default(field: DataclassField[Any]) -> Any:
    if field.default_factory is not MISSING:
        return Field(default_factory=field.default_factory)
    return ... if field.default is MISSING else field.default


def _checked(hint: Any) -> Any:
    """Adapt an annotation for pydantic: values that TOML lacks are parsed from strings."""
    extras = getattr(hint, "__metadata__", ())
    for extra in extras:
        if isinstance(extra, Spelling):
            return Annotated[hint, PlainValidator(extra.read)]
    kind = hint.__origin__ if extras else hint
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    named = any(isinstance(each, type) and issubclass(each, Enum) for each in kinds)
    return Annotated[hint, Strict(False)] if named else hint


_Table = Annotated[tuple[str | None, str], PlainValidator(read_table)]

ProviderSection = create_model(
    "ProviderSection",
    __base__=Section,
    **_keys(Provider, without=["name"])
    | {
        "base_url": (Annotated[str, AfterValidator(read_url)] | None, None),
        "api_key_env": (Annotated[str, AfterValidator(read_variable)] | None, None),
        # Checked together with the dialect, see `file.py`.
        "headers": (dict[str, Any], {}),
        "extra_body": (dict[str, Any], {}),
        "ca_file": (Annotated[str, AfterValidator(read_path)] | None, None),
        "proxy": (Annotated[str, AfterValidator(read_proxy)] | None, None),
    },
)
ReconcileSection = create_model("ReconcileSection", __base__=Section, **_keys(Schedule))
IndexSection = create_model("IndexSection", __base__=Section, **_keys(IndexPlan))
_PREFIX = {"prefix": (Annotated[str, AfterValidator(read_prefix)] | None, None)}
DocumentSection = create_model("DocumentSection", __base__=Section, **_keys(DocumentInput) | _PREFIX)
QuerySection = create_model(
    "QuerySection",
    __base__=Section,
    **_keys(QueryInput) | _PREFIX | {"model": (Annotated[str, MinLen(1)] | None, None)},
)
TABLES: dict[str, tuple[type[Section], type]] = {
    "reconcile": (ReconcileSection, Schedule),
    "index": (IndexSection, IndexPlan),
    "document": (DocumentSection, DocumentInput),
    "query": (QuerySection, QueryInput),
}
"""The tables within a pipeline's section: how each is checked, and the option's type."""
PipelineSection = create_model(
    "PipelineSection",
    __base__=Section,
    # Not options: the database resolves these keys, and a change follows rules of its own.
    source=(_Table, ...),
    key=(Annotated[tuple[str, ...], PlainValidator(read_columns)] | None, None),
    target=(_Table | None, None),
    **_keys(Options, without=["price", "dialect"])  # from the sections `prices` and `providers`
    | {
        "text": (Annotated[Text, PlainValidator(read_text)], ...),
        "where": (Annotated[str, AfterValidator(read_sql)] | None, None),
    }
    | {name: (dict[str, Any], {}) for name in TABLES},
)


class FileSection(Section):
    """The whole file."""

    providers: dict[str, dict[str, Any]] = {}
    pipelines: dict[str, dict[str, Any]] = {}
    prices: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    """Model → US dollars per million tokens, for estimates."""
