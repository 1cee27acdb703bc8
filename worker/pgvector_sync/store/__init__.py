"""Which SQL reads and writes our tables, the sources and the targets? Every statement is in `sql/queries`."""
