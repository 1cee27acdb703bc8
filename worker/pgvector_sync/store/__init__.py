"""SQL behind named functions: every statement is in `sql/queries`, every function here runs one or two of them."""
