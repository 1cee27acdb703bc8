"""What could the first pipeline of a table look like? The proposal of `init`."""
