"""How is the database made to match `pgvector-sync.toml`? The file, its plan, `apply` and `remove`."""
