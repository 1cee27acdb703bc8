"""Making the database match `pgvector-sync.toml`: the file, the plan, `apply` and `remove`."""
