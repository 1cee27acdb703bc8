"""Reads and writes our tables, the sources and the targets. The statements are in `sql/queries`."""
