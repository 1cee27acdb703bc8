"""What is the state of a pipeline, and what to do about it? `status`, `search`, `doctor`, waiting for a run."""
