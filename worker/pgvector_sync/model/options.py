"""The options of a pipeline, declared once.

To add an option, add a field to `Options` and a column of the same name to `pgvector_sync.pipeline`. The section
of the file, its checks, and what `apply` stores, reads, compares and shows are derived from the field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from enum import Flag, StrEnum, auto
from typing import Annotated, Any, get_type_hints

from annotated_types import Ge, Le, MinLen

from pgvector_sync.model.index import UNINDEXED, IndexPlan
from pgvector_sync.model.inputs import DOCUMENT, QUERY, DocumentInput, QueryInput
from pgvector_sync.model.provider import OPENAI, Count
from pgvector_sync.model.schedule import DAILY, Schedule


class Metric(StrEnum):
    """The distance that searches and indexes use."""

    COSINE = "cosine"
    L2 = "l2"
    INNER_PRODUCT = "inner_product"


class VectorType(StrEnum):
    """The column type of vectors. halfvec needs half the space, and can be indexed up to 4,000 dimensions."""

    VECTOR = "vector"
    HALFVEC = "halfvec"


class Effect(Flag):
    """What has to happen when an option changes, besides storing it."""

    NONE = 0
    READS_AGAIN = auto()
    """Every row is read again, and embedded if its text differs."""
    EMBEDS_AGAIN = auto()
    """Every row is embedded again."""
    RETYPES = auto()
    """The target's column gets another type, which is refused while it contains vectors."""


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """How one option is shown and stored, and what a change of it requires."""

    effect: Effect = Effect.NONE
    unset: str = "none"
    """How a missing value is shown."""
    show: Callable[[Any], str] = str
    """How any other value is shown."""
    read: Callable[[Any], Any] = _as_it_is
    """Converts the stored value. The fields of an enumeration type need none."""
    write: Callable[[Any], Any] = _as_it_is
    """Converts to the value that is stored, and printed as JSON."""
    column: str = ""
    """The column in which it is stored; by default the one with the option's name."""
    name: str = ""
    """The name of its field, filled in for OPTIONS."""

    def shown(self, value: object) -> str:
        """Returns the value as users see it."""
        return self.unset if value is None else self.show(value)


def _yes_or_no(value: bool) -> str:
    return "true" if value else "false"


def _dollars(price: Decimal) -> str:
    return f"${price.normalize():f} per million tokens"


_DOCUMENT = Option(effect=Effect.EMBEDS_AGAIN, read=DocumentInput.read, write=DocumentInput.written)
_INDEX = Option(read=IndexPlan.read, write=IndexPlan.written, column="vector_index")
_WHERE = Option(effect=Effect.READS_AGAIN, unset="(all rows)", column="where_given")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a pipeline, as they are in the file and in the database."""

    text: Annotated[str, Option(effect=Effect.READS_AGAIN, column="text_given")]
    """An SQL expression, as written in the file or built from its list of columns."""
    where: Annotated[str | None, _WHERE] = None
    provider: Annotated[str, Option()]
    """The name of a provider."""
    dialect: Annotated[str, Option(effect=Effect.EMBEDS_AGAIN)] = OPENAI
    """The provider's dialect when the pipeline was applied, from the provider's section."""
    model: Annotated[str, MinLen(1), Option(effect=Effect.EMBEDS_AGAIN)]
    dimensions: Annotated[int, Ge(1), Le(16_000), Option(effect=Effect.EMBEDS_AGAIN | Effect.RETYPES)]
    """The maximum is that of pgvector's columns."""
    vector_type: Annotated[VectorType, Option(effect=Effect.RETYPES)] = VectorType.VECTOR
    document: Annotated[DocumentInput, _DOCUMENT] = DOCUMENT
    query: Annotated[QueryInput, Option(read=QueryInput.read, write=QueryInput.written)] = QUERY
    metric: Annotated[Metric, Option()] = Metric.COSINE
    batch_size: Annotated[Annotated[int, Ge(1), Le(2048)] | None, Option(unset="default")] = None
    """The maximum number of rows per batch, limited to the inputs that one request may have. None: the default of
    the lane."""
    tokens_per_day: Annotated[Count | None, Option(unset="no limit")] = None
    """The maximum number of tokens that the bulk lane may spend per day (UTC). The live lane has no limit."""
    price: Annotated[Decimal | None, Option(unset="list price", show=_dollars)] = None
    """US dollars per million tokens, from the section [prices]. None: the model's list price, if known."""
    reconcile: Annotated[Schedule, Option(read=Schedule.read, write=Schedule.written)] = DAILY
    index: Annotated[IndexPlan, _INDEX] = UNINDEXED
    capture_replicated: Annotated[bool, Option(show=_yes_or_no)] = False

    @property
    def column_type(self) -> str:
        """The type of the target's column, without a schema: `vector(1536)`."""
        return f"{self.vector_type.value}({self.dimensions})"


def _options() -> dict[str, Option]:
    hints = get_type_hints(Options, include_extras=True)
    options = {}
    for field in fields(Options):
        hint = hints[field.name]
        [option] = [extra for extra in hint.__metadata__ if isinstance(extra, Option)]
        kind = hint.__origin__
        read = kind if isinstance(kind, type) and issubclass(kind, StrEnum) else option.read
        options[field.name] = replace(option, name=field.name, column=option.column or field.name, read=read)
    return options


OPTIONS = _options()
"""Every option, by name."""
