"""pgvector-sync keeps pgvector embeddings in step with the rows they describe."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("pgvector-sync")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0.0.0"
