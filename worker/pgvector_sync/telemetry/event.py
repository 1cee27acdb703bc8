"""The base of events: frozen objects with a name, a level and fields of types that can't hold a row's text."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import ClassVar, NewType, TypeVar, dataclass_transform

Words = NewType("Words", str)
"""A sentence written in this program: a reason or a hint. Wrapping a string in it states that no row, vector or
secret is part of it (G13); a plain `str` in an event is only ever a name or a SQLSTATE."""


class Level(IntEnum):
    """How important an event is to a reader of the log."""

    DEBUG = logging.DEBUG
    INFO = logging.INFO
    WARNING = logging.WARNING
    ERROR = logging.ERROR


class Event:
    """Base of all events. Dashboards and alerts depend on `name` and the names of fields."""

    __slots__ = ()
    name: ClassVar[str]
    level: ClassVar[Level]

    def fields(self) -> dict[str, object]:
        """Return what a sink may show or count, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]


E = TypeVar("E", bound=Event)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def event(name: str, level: Level = Level.INFO) -> Callable[[type[E]], type[E]]:
    """Turn a class of fields into an event of this name."""

    def decorate(fields_only: type[E]) -> type[E]:
        cls = dataclass(frozen=True, slots=True, kw_only=True)(fields_only)
        cls.name, cls.level = name, level
        return cls

    return decorate
