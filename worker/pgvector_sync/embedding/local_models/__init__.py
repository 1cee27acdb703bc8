"""How does a model run in this process, without an API key and without a network?"""
