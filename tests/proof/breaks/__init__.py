"""All deliberate breaks of the protocol."""

from proof.breaks import batch, counters, events

MUTANTS = (*batch.MUTANTS, *counters.MUTANTS, *events.MUTANTS)
