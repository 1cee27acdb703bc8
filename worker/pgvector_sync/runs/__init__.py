"""How are many rows processed on request? By backfills, re-embeds and reconciliations."""
