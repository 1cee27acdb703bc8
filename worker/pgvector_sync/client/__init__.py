"""How does an application call pgvector-sync? `Sync` has the verbs of the commands, below the command line.

Nothing is imported here: `pgvector-sync health` uses a part of this folder, and must start quickly.
"""
