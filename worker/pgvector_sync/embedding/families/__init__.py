"""Which prefix or parameters does a model expect? The families of models, known by name."""
