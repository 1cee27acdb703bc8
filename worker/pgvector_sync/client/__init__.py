"""What does an application call? `Sync`, which has a method for each command that works on the database.

This module imports nothing, because `pgvector-sync health` uses part of the package and must start quickly.
"""
