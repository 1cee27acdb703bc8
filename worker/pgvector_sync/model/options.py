"""The options of a pipeline, declared once.

A field of `Options` is all that an option needs besides a column of its name in `pgvector_sync.pipeline`: the
section of the file, its checks, what `apply` stores, reads back, compares and shows are all derived from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from enum import Flag, StrEnum, auto
from typing import Annotated, Any, get_type_hints

from annotated_types import Ge, Le, MinLen

from pgvector_sync.model.schedule import DAILY, Schedule


class Metric(StrEnum):
    """The distance that searches and indexes use."""

    COSINE = "cosine"
    L2 = "l2"
    INNER_PRODUCT = "inner_product"


class VectorType(StrEnum):
    """pgvector's column type; halfvec takes half the space and indexes up to 4,000 dimensions."""

    VECTOR = "vector"
    HALFVEC = "halfvec"


class Effect(Flag):
    """What a changed option requires besides being stored."""

    NONE = 0
    READS_AGAIN = auto()
    """Every row is read again, and embedded where its text differs."""
    EMBEDS_AGAIN = auto()
    """Every row is embedded again."""
    RETYPES = auto()
    """The target's column gets another type, which is refused while it holds vectors."""


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """What is particular about one option."""

    effect: Effect = Effect.NONE
    unset: str = "none"
    """How a missing value is shown."""
    show: Callable[[Any], str] = str
    """How any other value is shown."""
    read: Callable[[Any], Any] = _as_it_is
    """From the value that is stored; that of an enumeration is found by itself."""
    write: Callable[[Any], Any] = _as_it_is
    """To the value that is stored, and printed as JSON."""
    column: str = ""
    """Where it is stored: in the column of its name, unless given."""
    name: str = ""
    """Taken from the field."""

    def shown(self, value: object) -> str:
        """The value, for a person."""
        return self.unset if value is None else self.show(value)


def _yes_or_no(value: bool) -> str:
    return "true" if value else "false"


def _dollars(price: Decimal) -> str:
    return f"${price.normalize():f} per million tokens"


Count = Annotated[int, Ge(1)]
_WHERE = Option(effect=Effect.READS_AGAIN, unset="(all rows)", column="where_given")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a user chooses for a pipeline, as the file and the database have it."""

    text: Annotated[str, Option(effect=Effect.READS_AGAIN, column="text_given")]
    """An SQL expression, as it is spelled in the file or made from a list of columns."""
    where: Annotated[str | None, _WHERE] = None
    provider: Annotated[str, Option()]
    """Its name."""
    model: Annotated[str, MinLen(1), Option(effect=Effect.EMBEDS_AGAIN)]
    dimensions: Annotated[int, Ge(1), Le(16_000), Option(effect=Effect.EMBEDS_AGAIN | Effect.RETYPES)]
    """At most what a vector or halfvec column holds."""
    vector_type: Annotated[VectorType, Option(effect=Effect.RETYPES)] = VectorType.VECTOR
    metric: Annotated[Metric, Option()] = Metric.COSINE
    batch_size: Annotated[Annotated[int, Ge(1), Le(2048)] | None, Option(unset="default")] = None
    """Rows per batch, at most as many inputs as one request may hold. None: the default of the lane."""
    tokens_per_day: Annotated[Count | None, Option(unset="no limit")] = None
    """What bulk may spend per day, by UTC; live goes on beyond it."""
    price: Annotated[Decimal | None, Option(unset="list price", show=_dollars)] = None
    """US dollars per million tokens, from the section [prices]. None: the price that is known for the model."""
    reconcile: Annotated[Schedule, Option(read=Schedule.read, write=Schedule.written)] = DAILY
    capture_replicated: Annotated[bool, Option(show=_yes_or_no)] = False

    @property
    def column_type(self) -> str:
        """Of the target's column."""
        return f"{self.vector_type.value}({self.dimensions})"


def _described() -> dict[str, Option]:
    hints = get_type_hints(Options, include_extras=True)
    described = {}
    for field in fields(Options):
        hint = hints[field.name]
        [option] = [extra for extra in hint.__metadata__ if isinstance(extra, Option)]
        kind = hint.__origin__
        read = kind if isinstance(kind, type) and issubclass(kind, StrEnum) else option.read
        described[field.name] = replace(option, name=field.name, column=option.column or field.name, read=read)
    return described


OPTIONS = _described()
"""Every option by its name."""
