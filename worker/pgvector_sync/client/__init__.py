"""What does an application call? `Sync`, which has the verbs of the commands, below the command line.

Nothing is imported here: `pgvector-sync health` uses a part of this folder, and must start quickly.
"""
