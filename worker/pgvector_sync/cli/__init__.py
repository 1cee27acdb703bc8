"""The command line: thin. Each file adds its commands to `app`; `main` turns errors into messages and exit codes."""

from pgvector_sync.cli.app import app, main

__all__ = ["app", "main"]
