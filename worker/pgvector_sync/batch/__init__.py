"""One batch on its way: claim → read → embed → write and ack, with no transaction open during the call."""

from pgvector_sync.batch.process import Outcome, process

__all__ = ["Outcome", "process"]
