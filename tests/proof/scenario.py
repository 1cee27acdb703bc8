"""Directed scenarios: each goes where one defence of the protocol is needed, and passes on the unbroken protocol.

A scenario's own assertions cover what coverage and witness don't see: cost, waiting, attempts, a lease.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from proof.arena import Arena

Scenario = Callable[[Arena], None]
S = TypeVar("S", bound=Scenario)

SCENARIOS: dict[str, Scenario] = {}
FRESH: set[str] = set()
"""Scenarios that change the pipeline or its source, and therefore need their own database."""


def scenario(function: S) -> S:
    SCENARIOS[function.__name__.replace("_", " ")] = function
    return function


def on_a_fresh_database(function: S) -> S:
    FRESH.add(function.__name__.replace("_", " "))
    return scenario(function)
