"""Makes `python -m pgvector_sync` equivalent to `pgvector-sync`."""

from pgvector_sync.cli import main

main()
