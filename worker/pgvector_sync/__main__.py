"""`python -m pgvector_sync` is `pgvector-sync`."""

from pgvector_sync.cli import main

main()
