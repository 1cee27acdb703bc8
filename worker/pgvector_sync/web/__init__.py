"""How is the state shown to browsers, Prometheus and probes? `pgvector-sync serve` runs what is in here.

Everything is read-only: the methods GET and HEAD, and connections whose transactions can't write.
"""
