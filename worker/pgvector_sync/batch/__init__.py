"""How does a batch of rows get its vectors? Claim → read → embed → write and ack."""

from pgvector_sync.batch.process import Outcome, process

__all__ = ["Outcome", "process"]
