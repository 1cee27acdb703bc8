"""The sections of the file, derived from the options that are declared in `model`, and what is wrong in one."""

from __future__ import annotations

from dataclasses import MISSING, fields
from enum import Enum
from typing import Annotated, Any, get_type_hints

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
    read_sql,
    read_table,
    read_text,
    read_url,
    read_variable,
)
from pgvector_sync.model import Options, Provider, Schedule
from pgvector_sync.model.schedule import Spelling


class Section(BaseModel):
    """One table of the file."""

    # Strict, since a "1536" that silently becomes a number hides the mistake that comes next.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _keys(options: type, *, without: str) -> dict[str, Any]:
    """One key per field of a dataclass of options, with the checks that its annotation declares."""
    hints = get_type_hints(options, include_extras=True)
    return {
        field.name: (_checked(hints[field.name]), ... if field.default is MISSING else field.default)
        for field in fields(options)
        if field.name != without
    }


def _checked(hint: Any) -> Any:
    """The annotation as pydantic needs it: values that TOML doesn't have are read from their spelling."""
    extras = getattr(hint, "__metadata__", ())
    for extra in extras:
        if isinstance(extra, Spelling):
            return Annotated[hint, PlainValidator(extra.read)]
    kind = hint.__origin__ if extras else hint
    return Annotated[hint, Strict(False)] if isinstance(kind, type) and issubclass(kind, Enum) else hint


_Table = Annotated[tuple[str | None, str], PlainValidator(read_table)]

ProviderSection = create_model(
    "ProviderSection",
    __base__=Section,
    **_keys(Provider, without="name")
    | {
        "base_url": (Annotated[str, AfterValidator(read_url)] | None, None),
        "api_key_env": (Annotated[str, AfterValidator(read_variable)] | None, None),
    },
)
ReconcileSection = create_model("ReconcileSection", __base__=Section, **_keys(Schedule, without=""))
PipelineSection = create_model(
    "PipelineSection",
    __base__=Section,
    # what the pipeline is over; the database resolves it, and a change is refused or carried out by its own rules
    source=(_Table, ...),
    key=(Annotated[tuple[str, ...], PlainValidator(read_columns)] | None, None),
    target=(_Table | None, None),
    **_keys(Options, without="price")  # which is the model's, in a section of its own
    | {
        "text": (Annotated[Text, PlainValidator(read_text)], ...),
        "where": (Annotated[str, AfterValidator(read_sql)] | None, None),
        "reconcile": (dict[str, Any], {}),
    },
)


class FileSection(Section):
    """The whole file."""

    providers: dict[str, dict[str, Any]] = {}
    pipelines: dict[str, dict[str, Any]] = {}
    prices: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    """Model → US dollars per million tokens, for estimates."""
