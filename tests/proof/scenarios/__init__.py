"""All scenarios, in the order of the protocol."""

from proof.scenario import FRESH, SCENARIOS
from proof.scenarios import apply, batch, counters, events

__all__ = ["FRESH", "SCENARIOS", "apply", "batch", "counters", "events"]
