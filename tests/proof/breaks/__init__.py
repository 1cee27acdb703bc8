"""All deliberate breaks of the protocol."""

from proof.breaks import batch, events

MUTANTS = (*batch.MUTANTS, *events.MUTANTS)
