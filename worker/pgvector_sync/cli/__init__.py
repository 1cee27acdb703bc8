"""The command line: thin. Each file adds its commands to `app`; `main` makes errors exit codes."""

from pgvector_sync.cli.app import app, main

__all__ = ["app", "main"]
