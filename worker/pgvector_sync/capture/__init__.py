"""How does a change of a source row become a row of work? Through triggers and the drain of the outbox."""
