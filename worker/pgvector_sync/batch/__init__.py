"""How does a batch of rows get its vectors? Claim, read, embed, then write and acknowledge."""

from pgvector_sync.batch.process import Outcome, process

__all__ = ["Outcome", "process"]
