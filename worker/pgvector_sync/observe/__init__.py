"""Observing pipelines: `status`, `search`, `doctor`, and waiting for a run."""
