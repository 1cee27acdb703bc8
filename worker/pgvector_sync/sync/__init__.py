"""The verbs of pgvector-sync, independent of each other: capture, drain, batch (claim, read, embed, write), fill."""
