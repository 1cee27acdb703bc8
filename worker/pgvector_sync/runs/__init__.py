"""How are many rows processed on request? Backfills, re-embeds and reconciliations."""
